// Package keyed holds the circuit breakers of the keys of one service, such as its tenants, within the breaker of the service.
//
// A call is asked for at the service's breaker first, then at that of its key, and is reported to both. The number of keys is bounded:
// beyond it, the key that was used least recently goes. One whose breaker is open goes only if all are, so that new keys do not end
// the open periods of others. A key whose state is forced stays.
package keyed

import (
	"container/list"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// MaxKeyLength is the length in bytes of the longest key that has a breaker.
const MaxKeyLength = 256

// The errors of Force.
var (
	// ErrInvalidKey is the error for a key that has no breaker of its own.
	ErrInvalidKey = errors.New("a key must have 1 to 256 bytes of valid UTF-8")
	// ErrAllForced is the error if there is no room for the key, because the states of all others are forced.
	ErrAllForced = errors.New("no further key can be forced: breaker.by.max keys are")
	// ErrClosed is the error after Close.
	ErrClosed = errors.New("requests are not judged by key")
)

// Breakers are the breakers of the keys of one service. It is safe for concurrent use.
type Breakers struct {
	service *breaker.Breaker
	publish func(events.Event)
	seed    maphash.Seed
	// byFailures is breaker.Policy.ByFailures, and usesDurations is UsesDurations of it.
	byFailures, usesDurations atomic.Bool
	// countsSuccesses is set if there is an algorithm, which counts them.
	countsSuccesses atomic.Bool

	transitions [len(events.States)]atomic.Uint64 // by the state they led to
	evictions   atomic.Uint64
	eventLimit  *rate.Limiter
	omitted     atomic.Int64 // events since the last one that was published

	mu      sync.Mutex // guards the fields below and those of entries
	policy  breaker.Policy
	max     int
	closed  bool
	entries map[string]*entry // by key
	recent  list.List         // of *entry, the one that was used last first
}

// Events beyond this rate are not published, so that many keys that change their states at once do not fill logs.
const (
	eventsPerSecond = 10
	eventBurst      = 20
)

// New returns the breakers of the keys of a service. publish receives an events.KeyStateChanged for each change of a state, unless
// there are too many; it must return at once. SetPolicy must be called before the first call.
func New(service *breaker.Breaker, publish func(events.Event)) *Breakers {
	return &Breakers{
		service: service, publish: publish, seed: maphash.MakeSeed(), entries: map[string]*entry{},
		eventLimit: rate.NewLimiter(eventsPerSecond, eventBurst),
	}
}

// Valid reports whether a key has a breaker of its own.
func Valid(key string) bool { return key != "" && len(key) <= MaxKeyLength && utf8.ValidString(key) }

// SetPolicy sets the policy of the service's breaker, from which that of all keys follows, and the number of keys. Breakers keep
// their states.
func (k *Breakers) SetPolicy(service breaker.Policy, limit int) {
	policy := service.ForKey()
	k.mu.Lock()
	k.policy, k.max = policy, limit
	k.byFailures.Store(policy.ByFailures())
	k.usesDurations.Store(policy.UsesDurations())
	k.countsSuccesses.Store(policy.Used())
	for len(k.entries) > limit && k.evict() {
	}
	var existing []*entry
	for _, e := range k.entries {
		if e.breaker.Load() != nil {
			existing = append(existing, e)
		}
	}
	k.mu.Unlock()
	for _, e := range existing {
		e.breaker.Load().SetPolicy(policy)
		e.quiet.Store(false) // it has not been kept up to date with another policy
	}
}

// Allow asks the service's breaker and that of key for a call at a time, now or shortly before. uploaded is whether the request's body
// has been received completely: see breaker.Breaker.AllowBeforeUpload. The results are those of breaker.Breaker.Allow, of the breaker
// that rejects the call. A key that is not valid has no breaker of its own.
func (k *Breakers) Allow(key string, at time.Time, uploaded bool) (breaker.Call, error) {
	e := k.use(key, at)
	call, err := allow(k.service, uploaded)
	if e == nil || err != nil || !call.Counts() {
		return call, err
	}
	if e.quiet.Load() && k.byFailures.Load() {
		return call.WithKey(e.hash, events.Closed, e), nil
	}
	b := e.makeBreaker()
	if b == nil { // the key has been removed
		return call, nil
	}
	own, err := allow(b, uploaded)
	if err != nil {
		call.Reject()
		return own, err
	}
	return call.WithKey(e.hash, own.State, &report{own, e}), nil
}

// allow asks b for a call.
func allow(b *breaker.Breaker, uploaded bool) (breaker.Call, error) {
	if uploaded {
		return b.Allow()
	}
	return b.AllowBeforeUpload()
}

// IsOpen reports whether the breaker of key is open.
func (k *Breakers) IsOpen(key string) bool {
	b := k.existing(key)
	return b != nil && b.State() == events.Open
}

// RetryAt is breaker.Breaker.RetryAt of the breaker of key.
func (k *Breakers) RetryAt(key string) time.Time {
	if b := k.existing(key); b != nil {
		return b.RetryAt()
	}
	return time.Time{}
}

// existing returns the breaker of key; nil if there is none.
func (k *Breakers) existing(key string) *breaker.Breaker {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.entries[key]; e != nil {
		return e.breaker.Load()
	}
	return nil
}

// Close closes the breakers of all keys, and forgets the keys. Calls may still be asked for, and are judged by the service's breaker
// alone.
func (k *Breakers) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, e := range k.entries {
		k.remove(e)
	}
}

// stateChanged publishes a change of a key's breaker. The lock of that is held.
func (k *Breakers) stateChanged(c events.StateChanged) {
	k.transitions[c.To].Add(1)
	if !k.eventLimit.Allow() {
		k.omitted.Add(1)
		return
	}
	k.publish(events.KeyStateChanged{
		Time: c.Time, Service: c.Service, From: c.From, To: c.To, Cause: c.Cause, Omitted: int(k.omitted.Swap(0)),
	})
}
