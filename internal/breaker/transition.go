package breaker

import (
	"fmt"
	"time"

	"cbproxy/internal/events"
)

// applyTransitions replaces the current phase according to the transitions that the engine has recorded, and publishes them.
func (b *Breaker) applyTransitions() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applyTransitionsLocked()
	b.publishReports()
}

// applyTransitionsLocked is applyTransitions for a caller that holds b.mu.
func (b *Breaker) applyTransitionsLocked() {
	for {
		e := b.current.Load().engine
		if e == nil {
			return
		}
		pending := e.takeTransitions()
		if len(pending) == 0 {
			return
		}
		for _, t := range pending {
			b.applyTransition(t)
			if b.current.Load().engine != e {
				break // later transitions of a replaced engine have no effect
			}
		}
	}
}

// applyTransition enters the phase that t begins.
func (b *Breaker) applyTransition(t transition) {
	prev := b.current.Load()
	next := &phase{state: t.to, since: t.at, consecutiveOpenings: prev.consecutiveOpenings}
	var change events.StateChanged
	if t.to == events.Open {
		b.completeOpenPhase(next, &change, t.trip)
	} else {
		next.engine, next.ramp, change.Cause = prev.engine, true, events.CauseProbesSucceeded
	}
	b.transitionTo(next, change)
}

// endOpenPhase makes the breaker half-open if p, an open phase whose end has passed, is still current.
func (b *Breaker) endOpenPhase(p *phase) {
	since := b.env.now()
	e := newHalfOpenEngine(&b.env, &b.policy) // takes some time, which must not be spent under the lock
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current.Load() != p {
		return
	}
	change := events.StateChanged{Cause: events.CauseRecoveryTimeout}
	if p.forced != nil {
		change.Cause, change.Reason = events.CauseForceExpired, p.forced.Reason
	}
	b.transitionTo(&phase{
		engine: e, state: events.HalfOpen, since: since,
		consecutiveFailures: p.consecutiveFailures, consecutiveOpenings: p.consecutiveOpenings,
	}, change)
}

// completeOpenPhase sets the duration of next, an open phase, and the cause in its event.
func (b *Breaker) completeOpenPhase(next *phase, change *events.StateChanged, trip tripReason) {
	prev := b.current.Load()
	change.Cause, change.Counts, change.Failure = trip.cause, trip.counts, b.lastFailure.Load()
	next.consecutiveFailures = int(trip.counts.ConsecutiveFailures)
	switch {
	case prev.state == events.HalfOpen:
		next.consecutiveFailures = prev.consecutiveFailures + 1
		change.Cause = events.CauseProbeFailed
		change.Counts = events.Counts{Requests: 1, Failures: 1, ConsecutiveFailures: uint32(next.consecutiveFailures)}
	case trip.cause == events.CauseSlowCallRatio:
		change.Failure = slowCallFailure(next.since, trip)
		if !trip.failed { // a failure is more informative than a number of slow calls
			b.lastFailure.Store(change.Failure)
		}
	case trip.cause == events.CauseExpression && trip.counts.Failures == 0:
		change.Failure = nil // the last failure is no longer in the window
	}
	next.consecutiveOpenings = b.consecutiveOpenings(prev, next.since) + 1
	next.random = b.env.Random()
	next.until = next.since.Add(b.policy.Load().openDuration(next.consecutiveOpenings, next.random))
}

// slowCallFailure returns the failure to show if slow calls opened the breaker.
func slowCallFailure(at time.Time, trip tripReason) *events.Failure {
	detail := fmt.Sprintf("%d of %d calls took %v or longer", trip.counts.Slow, trip.counts.Requests, trip.slow)
	return &events.Failure{Time: at, Type: events.ErrorSlow, Detail: detail}
}

// consecutiveOpenings returns the number of consecutive openings as of at, where p is the current phase. It is 0 once the breaker
// has been closed for RecoveryTimeout.
func (b *Breaker) consecutiveOpenings(p *phase, at time.Time) int {
	if p.state == events.Closed && at.Sub(p.since) >= b.policy.Load().RecoveryTimeout {
		return 0
	}
	return p.consecutiveOpenings
}

// transitionTo makes next the current phase, and publishes change if its state is new, or otherwise that the end of an opening has
// changed. b.mu is held.
func (b *Breaker) transitionTo(next *phase, change events.StateChanged) {
	prev := b.current.Load()
	next.cause = change.Cause
	b.setPhase(next)
	switch {
	case prev.state != next.state:
		b.publishChange(prev, next, change)
	case next.state == events.Open && prev.forced == nil && next.forced == nil && !next.until.Equal(prev.until):
		b.publish(events.UntilChanged{Time: b.env.now(), Service: b.service, Until: next.until, Cause: change.Cause})
	}
	b.publishForced(prev, next, change.Reason)
	b.publishReports()
}

// publishChange counts and publishes change, a change from prev to next, whose remaining fields it sets.
func (b *Breaker) publishChange(prev, next *phase, change events.StateChanged) {
	b.transitions[next.state].Add(1)
	if change.Time.IsZero() {
		change.Time = next.since
	}
	change.Service = b.service
	change.From, change.To = prev.state, next.state
	if next.state == events.Open {
		change.Until = next.until
	}
	b.publish(change)
}

// publishForced publishes that a state was forced, or that a forced state was released.
func (b *Breaker) publishForced(prev, next *phase, reason string) {
	switch f := next.forced; {
	case f != nil:
		b.publish(events.Forced{
			Time: b.env.now(), Service: b.service, State: f.State.String(), Until: f.Until, Reason: f.Reason, Shared: f.Shared,
		})
	case prev.forced != nil:
		b.publish(events.Forced{Time: b.env.now(), Service: b.service, State: "auto", Reason: reason, Shared: prev.forced.Shared})
	}
}
