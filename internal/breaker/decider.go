package breaker

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
)

// decider runs the algorithm of a closed engine, and gives it a lock and a clock. The zero value has no algorithm and never
// opens the breaker. It is safe for concurrent use.
type decider struct {
	used      atomic.Bool // whether there is an algorithm, so that a call without one takes no lock
	limits    atomic.Bool // whether it is a Limiter
	details   atomic.Bool // whether it needs AlgorithmFactory.Details
	durations atomic.Bool // Policy.UsesDurations

	errors *atomic.Uint64 // counts the errors of a Fallible; nil until the engine is shared, which no algorithm sees

	mu        sync.Mutex // guards the fields below; held while methods of the algorithm are called
	name      string     // of the algorithm
	base      time.Time  // when it was made
	algorithm Algorithm  // nil: none
	fallible  Fallible   // algorithm; nil: it is not fallible
}

// configure applies p. An algorithm of the same name keeps what it has counted; any other one begins to count.
func (d *decider) configure(p *Policy) {
	next := newAlgorithm(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case next == nil:
		d.algorithm = nil
	case d.algorithm != nil && d.name == p.algorithm():
		d.algorithm.Configure(d.now(), p)
	default:
		d.algorithm, d.name, d.base = next, p.algorithm(), time.Now()
	}
	_, limits := d.algorithm.(Limiter)
	d.fallible, _ = d.algorithm.(Fallible)
	d.used.Store(d.algorithm != nil)
	d.limits.Store(limits)
	d.details.Store(d.algorithm != nil && p.factory().Details)
	d.durations.Store(p.UsesDurations())
}

// now returns the time since the algorithm was made. d.mu is held.
func (d *decider) now() time.Duration { return time.Since(d.base) }

// observe counts a call. It returns why the breaker opens, "" if it does not, and then or if the call failed also the counts.
func (d *decider) observe(call Observation) (events.Cause, events.Counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.algorithm == nil {
		return "", events.Counts{}
	}
	now := d.now()
	cause := d.algorithm.Observe(now, call)
	if d.fallible != nil && d.fallible.Err() != nil {
		d.errors.Add(1)
	}
	if cause == "" && !call.Failed {
		return "", events.Counts{}
	}
	return cause, d.algorithm.Counts(now)
}

// counts returns what is counted now.
func (d *decider) counts() events.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.algorithm == nil {
		return events.Counts{}
	}
	return d.algorithm.Counts(d.now())
}

// admit reports whether the algorithm lets a call through.
func (d *decider) admit() bool {
	if !d.limits.Load() {
		return true
	}
	random := rand.Float64() // #nosec G404 -- a share of calls, no secret
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.algorithm.(Limiter)
	return !ok || l.Admit(d.now(), random)
}

// rejectionRatio returns the probability with which admit would return false now.
func (d *decider) rejectionRatio() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.algorithm.(Limiter); ok {
		return l.RejectionRatio(d.now())
	}
	return 0
}
