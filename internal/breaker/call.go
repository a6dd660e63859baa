package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// Call is one admitted call. Exactly one of its reports must be made, from any goroutine;
// a report on a call that the breaker has moved on from counts for nothing. A report on a
// call that was refused, or let pass by Shadow or Off, or on the zero Call, does nothing.
type Call struct {
	// State is the state that decided the call.
	State events.State
	// RetryAt is when the opening ends that has refused the call; zero if none has, or it has no end.
	RetryAt time.Time
	// Shadowed is why Allow would have refused the call, where the mode is Shadow; nil if it
	// would not.
	Shadowed error

	breaker *Breaker
	engine  *engine
	done    func(error) // nil if a report has nowhere to go

	revocable bool // done is a probe's report
}

// Success reports that the upstream did its part, and how long it took.
func (c Call) Success(took time.Duration) { c.report(succeeded, succeededSlow, took) }

// Failure reports that the upstream failed, and how long it took.
func (c Call) Failure(f *events.Failure, took time.Duration) {
	if c.done != nil {
		c.breaker.lastFailure.Store(f)
	}
	c.report(failed, failedSlow, took)
}

// Cancel reports that the call says nothing of the upstream; a probe's place is given back.
func (c Call) Cancel() { c.report(cancelled, cancelled, 0) }

// Abandon reports that the call's client gave it up after the upstream had been awaited for took. It counts as a slow
// call if that makes it one, and otherwise as Cancel.
func (c Call) Abandon(took time.Duration) {
	c.report(cancelled, abandonedSlow, took)
}

// report tells the engine o, or slow if the call took too long.
func (c Call) report(o, slow *outcome, took time.Duration) {
	if c.done == nil {
		return
	}
	if c.breaker.policy.Load().slow(took) {
		o = slow
	}
	c.done(o)
	if c.engine.moved.Load() {
		c.breaker.settle()
	}
}
