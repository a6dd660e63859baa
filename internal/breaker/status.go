package breaker

import (
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// Status returns the current status. It ends a phase whose end has passed first.
func (b *Breaker) Status() events.BreakerStatus { return b.statusOf(b.currentPhase()) }

func (b *Breaker) statusOf(p *phase) events.BreakerStatus {
	status := events.BreakerStatus{
		State:               p.state,
		Since:               p.since,
		Cause:               p.cause,
		Forced:              p.forced,
		ConsecutiveFailures: p.consecutiveFailures,
		ConsecutiveOpenings: b.consecutiveOpenings(p, b.env.now()),
		LastFailure:         b.lastFailure.Load(),
		ExpressionErrors:    b.algorithmErrors.Load(),
		ShadowRejections: events.ShadowRejections{
			Open: b.shadowed[rejectedOpen].Load(), HalfOpenLimit: b.shadowed[rejectedHalfOpenLimit].Load(),
			Throttled: b.shadowed[rejectedThrottled].Load(), Recovering: b.shadowed[rejectedRecovering].Load(),
		},
	}
	for _, state := range events.States {
		status.Transitions[state] = b.transitions[state].Load()
	}
	switch p.state {
	case events.Open:
		status.RetryAt = p.until
	case events.HalfOpen:
		c := p.engine.cb.Counts()
		inFlight := int(c.Requests) - int(c.TotalExclusions) - int(c.TotalSuccesses) - int(c.TotalFailures)
		status.ProbesInFlight = max(inFlight-p.engine.revocable.countRevocableBeforeUpload(), 0)
		status.ProbesSucceeded = int(c.TotalSuccesses)
	case events.Closed:
		status.ConsecutiveFailures = int(p.engine.cb.Counts().ConsecutiveFailures)
	}
	status.AdmittedRatio = 1
	policy := b.policy.Load()
	if policy.Mode != Off {
		status.AdmittedRatio = admittedRatio(policy, p, b.env.now())
		if p.state == events.Closed && !p.engine.forced && !(policy.ByKey && p.engine.dominated.Load()) {
			status.RejectionRatio = p.engine.decider.rejectionRatio()
		}
	}
	if policy.Learns() {
		baseline := b.learning.status(policy)
		status.Latency = baseline.Latency
		if policy.SlowCall.Auto() {
			status.AutoSlowCall = baseline.SlowCallDuration
		}
		if policy.Adaptive.Mode != adaptive.Off && policy.Mode != Off {
			status.Adaptive = &baseline
		}
	}
	if policy.Used() {
		status.Window = &events.Counts{}
		if p.state == events.Closed {
			*status.Window = p.engine.decider.counts()
		}
		status.Window.ConsecutiveFailures = uint32(status.ConsecutiveFailures)
	}
	return status
}

// State returns the current state.
func (b *Breaker) State() events.State { return b.currentPhase().state }

// StateAndRetryAt returns the current state and, if that is open, when the open period ends; zero if it has no end.
func (b *Breaker) StateAndRetryAt() (events.State, time.Time) {
	p := b.currentPhase()
	if p.state != events.Open {
		return p.state, time.Time{}
	}
	return p.state, p.until
}

// RetryAt returns when the current open period ends; zero if the breaker is not open, or is forced open without end. It takes no
// lock.
func (b *Breaker) RetryAt() time.Time {
	if p := b.current.Load(); p.state == events.Open {
		return p.until
	}
	return time.Time{}
}

// NoteExpressionError counts an expression of this service's configuration that could not be evaluated: see
// events.BreakerStatus.ExpressionErrors.
func (b *Breaker) NoteExpressionError() { b.algorithmErrors.Add(1) }
