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
	// Shadowed is why Allow would have refused the call, where the mode is Shadow; nil if it
	// would not.
	Shadowed error

	breaker *Breaker
	engine  *engine
	done    func(error) // nil if a report has nowhere to go
}

// Success reports that the upstream did its part, and how long it took.
func (c Call) Success(took time.Duration) {
	switch {
	case c.done == nil:
	case c.breaker.policy.Load().slow(took):
		c.report(succeededSlow)
	default:
		c.report(succeeded)
	}
}

// Failure reports that the upstream failed, and how long it took.
func (c Call) Failure(f *events.Failure, took time.Duration) {
	if c.done == nil {
		return
	}
	c.breaker.lastFailure.Store(f)
	if c.breaker.policy.Load().slow(took) {
		c.report(failedSlow)
		return
	}
	c.report(failed)
}

// Cancel reports that the call says nothing of the upstream; a probe's place is given back.
func (c Call) Cancel() {
	if c.done != nil {
		c.report(cancelled)
	}
}

func (c Call) report(o *outcome) {
	c.done(o)
	if c.engine.moved.Load() {
		c.breaker.settle()
	}
}
