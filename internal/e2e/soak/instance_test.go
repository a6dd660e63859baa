package soak

import (
	"sync"
	"sync/atomic"
	"testing"

	"cbproxy/internal/e2e/harness"
)

const (
	fleetSize       = 4
	stableInstances = 2 // the first instances of the fleet; they are never killed or restarted
)

// instance is one proxy of the fleet.
type instance struct {
	*harness.Proxy
	n      int            // index in the fleet
	stable bool           // it is never killed or restarted, so that its counters are complete
	events *eventListener // of a stable instance

	control      sync.Mutex // held while the instance is down or its configuration file is edited
	invalidEdits int        // number of invalid configurations; guarded by control

	// transitions is incremented before each stop and after each start: it is odd while the instance may be down.
	transitions atomic.Int64

	queueTakenOver bool // other instances have taken over its queued requests; used by the test's goroutine only
}

// startInstance starts instance n and waits until it is connected to Redis.
func startInstance(t *testing.T, n int, config string) *instance {
	t.Helper()
	p := &instance{Proxy: harness.StartProxy(t, harness.Options{Config: config}), n: n, stable: n < stableInstances}
	p.AwaitRedis(true)
	return p
}

// upSince reports whether the instance has been up without interruption since p.transitions had the given value.
func (p *instance) upSince(transitions int64) bool {
	return transitions%2 == 0 && p.transitions.Load() == transitions
}
