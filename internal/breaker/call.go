package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// Call is one admitted call. Exactly one of Success, Failure, Cancel, Abandon, RetryAfter, Reject and Withdraw must be called, on any
// goroutine.
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

	key   uint64   // see WithKey; 0: it has none
	ofKey Reporter // likewise; nil: the result is reported to this breaker only

	injected  bool      // see WithFault
	revocable bool      // the permit can be revoked: report is revocableCall.reportOnce
	asked     time.Time // when the call was asked for; zero if it is not recorded
	status    int       // of the response, see WithStatus
}

// WithStatus returns c with the status of the upstream's response, which is only recorded.
func (c Call) WithStatus(status int) Call {
	c.status = status
	return c
}

// WithFault returns c with the note whether an operator has injected a fault into the call: nothing is learnt from it then, and it is
// otherwise reported like any other.
func (c Call) WithFault(injected bool) Call {
	c.injected = injected
	return c
}

// maxOverhead is the time between an admission and its report that is recorded as a part of the duration. A longer one is that of the
// call's client.
const maxOverhead = 5 * time.Millisecond

// record records the result of the call. If took is not 0, the recorded duration lasts until now, so that the call ends in a simulation
// when it ended, unless it has waited for its client.
func (c Call) record(result events.Result, kind events.ErrorType, took time.Duration) {
	if c.asked.IsZero() {
		return
	}
	if took > 0 {
		if elapsed := c.breaker.env.now().Sub(c.asked); elapsed > took && elapsed-took < maxOverhead {
			took = elapsed
		}
	}
	c.breaker.env.Record(events.Call{Time: c.asked, Result: result, Status: c.status, ErrorType: kind, Duration: took})
}

// Success reports that the call succeeded, and its duration.
func (c Call) Success(took time.Duration) {
	c.record(events.ResultSuccess, "", took)
	c.reportOutcome(outcomeSucceeded, outcomeSucceededSlow, "", took)
	if c.ofKey != nil {
		c.ofKey.Success(took)
	}
}

// Failure reports that the call failed, and its duration.
func (c Call) Failure(f *events.Failure, took time.Duration) {
	var kind events.ErrorType
	if f != nil {
		kind = f.Type
	}
	c.record(events.ResultFailure, kind, took)
	if c.report == nil {
		return
	}
	c.breaker.lastFailure.Store(f)
	c.reportOutcome(outcomeFailed, outcomeFailedSlow, kind, took)
	if c.ofKey != nil {
		c.ofKey.Failure(f, took)
	}
}

// Cancel reports that the call counts neither as success nor as failure. A probe returns its permit.
func (c Call) Cancel() {
	c.record(events.ResultCancelled, "", 0)
	c.Withdraw()
}

// Reject is Cancel for a call that was not made, because the proxy could not make it.
func (c Call) Reject() {
	c.record(events.ResultRejected, "", 0)
	c.Withdraw()
}

// Withdraw is Cancel for a call that was not made and is asked for again, or not at all. It is not recorded.
func (c Call) Withdraw() {
	c.reportOutcome(outcomeCancelled, outcomeCancelled, "", 0)
	if c.ofKey != nil {
		c.ofKey.Withdraw()
	}
}

// Abandon reports that the client cancelled the call after it had waited for the upstream for took. The call counts for the slow
// call ratio if took makes it a slow call; otherwise it counts as with Cancel.
func (c Call) Abandon(took time.Duration) {
	c.record(events.ResultCancelled, "", took)
	c.reportOutcome(outcomeCancelled, outcomeAbandonedSlow, "", took)
	if c.ofKey != nil {
		c.ofKey.Abandon(took)
	}
}

// reportOutcome passes o to the engine, or slow if the call was slow. kind is the type of a failure.
func (c Call) reportOutcome(o, slow *outcome, kind events.ErrorType, took time.Duration) {
	if c.report == nil {
		return
	}
	decider := &c.engine.decider
	durations := decider.durations.Load()
	if durations && took >= c.breaker.SlowCallDuration() {
		o = slow
	}
	if !o.cancelled && !o.abandoned {
		c.breaker.endRetryAfterRow()
	}
	keyed := c.key != 0 && (o.failed || o.slow)
	learnt := took > 0 && !o.cancelled && !o.abandoned && !o.failed && c.breaker.learning.needsDuration()
	if keyed || learnt || c.injected || decider.details.Load() && !o.cancelled && (o.failed || durations) {
		detailed := outcomePool.Get().(*outcome)
		*detailed = *o
		detailed.kind, detailed.injected, detailed.key = kind, c.injected, c.key
		if durations {
			detailed.took = took
		}
		if learnt {
			detailed.learnt = took
		}
		c.report(detailed)
		outcomePool.Put(detailed)
	} else {
		c.report(o)
	}
	if c.engine.hasPending.Load() || c.breaker.learning.hasReports.Load() {
		c.breaker.applyTransitions()
	}
}
