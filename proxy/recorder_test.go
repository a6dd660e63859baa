package proxy_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// recorder records the outcomes of all services of a server. It is the service.Observers of a server and the events.Observer of each
// service. Safe for concurrent use.
type recorder struct {
	mu       sync.Mutex
	outcomes []events.Outcome
	failures []events.ErrorType
	probes   []bool
	checks   []bool
	hedges   []bool
	local    []events.LocalError
	open     int           // requests in flight
	ended    chan struct{} // receives a value for each outcome
}

func newRecorder() *recorder { return &recorder{ended: make(chan struct{}, 10000)} }

func (r *recorder) Service(string) events.Observer { return r }
func (r *recorder) Forget(string)                  {}

func (r *recorder) Failed(kind events.ErrorType, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, slices.Repeat([]events.ErrorType{kind}, n)...)
}

func (r *recorder) FailedLocally(kind events.LocalError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local = append(r.local, kind)
}

func (r *recorder) Probed(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probes = append(r.probes, ok)
}

func (r *recorder) HealthChecked(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = append(r.checks, ok)
}

func (r *recorder) Hedged(won bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hedges = append(r.hedges, won)
}

func (r *recorder) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
}

func (r *recorder) End(o *events.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	r.outcomes = append(r.outcomes, *o)
	select {
	case r.ended <- struct{}{}:
	default: // a request must not block when more have ended than tests wait for
	}
}

// next waits for one more request to end and returns the most recent outcome.
func (r *recorder) next(t *testing.T) events.Outcome {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("no request ended within 20s")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outcomes[len(r.outcomes)-1]
}

// waitInFlight waits until n requests are in flight.
func (r *recorder) waitInFlight(t *testing.T, n int) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		open := r.open
		r.mu.Unlock()
		if open == n {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d requests are in flight, want %d", open, n)
		}
	}
}
