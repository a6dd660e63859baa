package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// Call is one admitted call. Exactly one of Success, Failure, Cancel, Abandon and RetryAfter must be called, on any goroutine.
// The report has no effect if the breaker has changed its state since (except that of RetryAfter), if the call was rejected, if
// it was admitted only because the mode is Shadow or Off, or on the zero Call.
type Call struct {
	// State is the state in which the call was admitted or rejected.
	State events.State
	// RetryAt is when the open period ends; zero if the breaker did not reject the call, if it was half-open, or if the open
	// period has no end.
	RetryAt time.Time

	breaker *Breaker
	engine  *engine
	report  func(error) // reports an *outcome; nil if reports have no effect

	revocable bool // the permit can be revoked: report is revocableCall.reportOnce
}

// Success reports that the call succeeded, and its duration.
func (c Call) Success(took time.Duration) {
	c.reportOutcome(outcomeSucceeded, outcomeSucceededSlow, "", took)
}

// Failure reports that the call failed, and its duration.
func (c Call) Failure(f *events.Failure, took time.Duration) {
	if c.report == nil {
		return
	}
	c.breaker.lastFailure.Store(f)
	var kind events.ErrorType
	if f != nil {
		kind = f.Type
	}
	c.reportOutcome(outcomeFailed, outcomeFailedSlow, kind, took)
}

// Cancel reports that the call counts neither as success nor as failure. A probe returns its permit.
func (c Call) Cancel() { c.reportOutcome(outcomeCancelled, outcomeCancelled, "", 0) }

// Abandon reports that the client cancelled the call after it had waited for the upstream for took. The call counts for the slow
// call ratio if took makes it a slow call; otherwise it counts as with Cancel.
func (c Call) Abandon(took time.Duration) {
	c.reportOutcome(outcomeCancelled, outcomeAbandonedSlow, "", took)
}

// reportOutcome passes o to the engine, or slow if the call was slow. kind is the type of a failure.
func (c Call) reportOutcome(o, slow *outcome, kind events.ErrorType, took time.Duration) {
	if c.report == nil {
		return
	}
	decider := &c.engine.decider
	durations := decider.durations.Load()
	if durations && took >= c.breaker.policy.Load().SlowCallDuration {
		o = slow
	}
	if !o.cancelled && !o.abandoned {
		c.breaker.endRetryAfterRow()
	}
	if decider.details.Load() && !o.cancelled && (o.failed || durations) {
		detailed := outcomePool.Get().(*outcome)
		*detailed = *o
		if detailed.kind = kind; durations {
			detailed.took = took
		}
		c.report(detailed)
		outcomePool.Put(detailed)
	} else {
		c.report(o)
	}
	if c.engine.hasPending.Load() {
		c.breaker.applyTransitions()
	}
}
