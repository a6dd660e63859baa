package breaker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// RegisterAlgorithm adds an algorithm: see algorithm.Register.
func RegisterAlgorithm(name string, f algorithm.Factory) { algorithm.Register(name, f) }

// decider runs the algorithm of a closed engine, and gives it a lock and a clock. The zero value has no algorithm and never
// opens the breaker. It is safe for concurrent use.
type decider struct {
	used      atomic.Bool // whether there is an algorithm, so that a call without one takes no lock
	limits    atomic.Bool // whether it is an algorithm.Limiter
	details   atomic.Bool // algorithm.Limits.UsesDetails
	durations atomic.Bool // algorithm.Limits.UsesDurations

	errors *atomic.Uint64 // counts the errors of an algorithm.Fallible; nil until the engine is shared, which no algorithm sees
	env    *Environment   // set before the engine is shared

	mu        sync.Mutex          // guards the fields below; held while methods of the algorithm are called
	name      string              // of the algorithm
	base      time.Time           // when it was made
	latest    time.Duration       // the time of its last call; math.MinInt64: there was none
	algorithm algorithm.Algorithm // nil: none
	fallible  algorithm.Fallible  // algorithm; nil: it is not fallible
}

// configure applies l. An algorithm of the same name keeps what it has counted; any other one begins to count.
func (d *decider) configure(l *algorithm.Limits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !l.Used():
		d.algorithm = nil
	case d.algorithm != nil && d.name == l.Name():
		d.algorithm.Configure(d.now(), l)
	default:
		d.algorithm, d.name, d.base, d.latest = l.New(), l.Name(), d.env.now(), math.MinInt64
	}
	_, limits := d.algorithm.(algorithm.Limiter)
	d.fallible, _ = d.algorithm.(algorithm.Fallible)
	d.used.Store(d.algorithm != nil)
	d.limits.Store(limits)
	d.details.Store(l.UsesDetails())
	d.durations.Store(l.UsesDurations())
}

// now returns the time since the algorithm was made. d.mu is held.
func (d *decider) now() time.Duration { return d.env.now().Sub(d.base) }

// observe counts a call. It returns why the breaker opens, "" if it does not, and then or if the call failed also the counts.
func (d *decider) observe(call algorithm.Observation) (events.Cause, events.Counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.algorithm == nil {
		return "", events.Counts{}
	}
	now := d.now()
	d.latest = now
	cause := d.algorithm.Observe(now, call)
	if d.fallible != nil && d.fallible.Err() != nil {
		d.errors.Add(1)
	}
	if cause == "" && !call.Failed {
		return "", events.Counts{}
	}
	return cause, d.algorithm.Counts(now)
}

// observeSuccesses counts n successes that ended at a time, before the algorithm was made or after. They do not open the breaker: see algorithm.Factory.ByFailures.
func (d *decider) observeSuccesses(n int, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.algorithm == nil {
		return
	}
	d.latest = max(d.latest, at.Sub(d.base))
	for range n {
		d.algorithm.Observe(d.latest, algorithm.Observation{})
	}
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
	random := d.env.Random()
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.algorithm.(algorithm.Limiter)
	return !ok || l.Admit(d.now(), random)
}

// rejectionRatio returns the probability with which admit would return false now.
func (d *decider) rejectionRatio() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.algorithm.(algorithm.Limiter); ok {
		return l.RejectionRatio(d.now())
	}
	return 0
}
