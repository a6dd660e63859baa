package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// Status is the status of a breaker at one moment.
type Status struct {
	State events.State
	Since time.Time
	// Cause is the cause of the transition to State; "" if there has been no transition.
	Cause events.Cause
	// RetryAt is when the open period ends and the breaker becomes half-open; zero if the breaker is not open, or is forced open
	// without end.
	RetryAt time.Time
	// Forced is nil if the state is not forced.
	Forced *ForcedState
	// ConsecutiveFailures is the number of consecutive failures; for an open or half-open breaker, of those that opened it.
	ConsecutiveFailures int
	// Window holds the counts for the ratios; nil if no ratio is a limit. The counts are zero while the breaker is not closed.
	Window *events.Counts
	// ConsecutiveOpenings is the number of openings without a lasting recovery between them, including the current one: it is the
	// exponent of RecoveryBackoff. It is 0 once the breaker has been closed for RecoveryTimeout, and in a forced state.
	ConsecutiveOpenings int
	// ProbesInFlight is the number of calls in flight whose results end a half-open state, without those whose permit any other
	// call may revoke. ProbesSucceeded is the number of those that have succeeded.
	ProbesInFlight, ProbesSucceeded int
	// LastFailure is the last failure that was reported, or the slow calls that opened the breaker if that was later; nil if
	// there was none.
	LastFailure *events.Failure
}

// ForcedState is a state that an operator has forced.
type ForcedState struct {
	State events.State
	// Until is when the forced state ends; zero if only Release ends it.
	Until  time.Time
	Reason string
	// Shared reports whether the state is forced for the whole fleet and not for this breaker alone.
	Shared bool
}

// Status returns the current status. It ends a phase whose end has passed first.
func (b *Breaker) Status() Status { return b.statusOf(b.currentPhase()) }

func (b *Breaker) statusOf(p *phase) Status {
	status := Status{
		State:               p.state,
		Since:               p.since,
		Cause:               p.cause,
		Forced:              p.forced,
		ConsecutiveFailures: p.consecutiveFailures,
		ConsecutiveOpenings: b.consecutiveOpenings(p, time.Now()),
		LastFailure:         b.lastFailure.Load(),
	}
	switch p.state {
	case events.Open:
		status.RetryAt = p.until
	case events.HalfOpen:
		c := p.engine.cb.Counts()
		inFlight := int(c.Requests) - int(c.TotalExclusions) - int(c.TotalSuccesses) - int(c.TotalFailures)
		status.ProbesInFlight = max(inFlight-p.engine.revocable.countRevocableByAny(), 0)
		status.ProbesSucceeded = int(c.TotalSuccesses)
	case events.Closed:
		status.ConsecutiveFailures = int(p.engine.cb.Counts().ConsecutiveFailures)
	}
	if b.policy.Load().usesWindow() {
		status.Window = &events.Counts{ConsecutiveFailures: uint32(status.ConsecutiveFailures)}
		if p.state == events.Closed {
			c := p.engine.window.counts()
			status.Window.Requests, status.Window.Failures, status.Window.Slow = c.requests, c.failures, c.slow
			status.Window.Successes = c.requests - c.failures
		}
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

// Transitions returns the number of transitions to state.
func (b *Breaker) Transitions(state events.State) uint64 { return b.transitions[state].Load() }

// ShadowRejections returns the number of calls that the mode Shadow has admitted and Enforce would have rejected, by reason:
// because the breaker was open, or because it was half-open without a permit for them. The numbers never decrease.
func (b *Breaker) ShadowRejections() (open, halfOpenLimit uint64) {
	return b.shadowed[events.Open].Load(), b.shadowed[events.HalfOpen].Load()
}
