package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// StateOverride is a state to set on a breaker.
type StateOverride struct {
	State events.State
	// Since is when the state began, if that was before now.
	Since time.Time
	// Duration is how long the state lasts from now on. 0 means until Release for a forced state, and the policy's duration of
	// the open period for an open state that is not forced. Closed and half-open states have an end only if they are forced.
	Duration time.Duration
	// Forced keeps the breaker in State, whatever the results of its calls are. It has no effect on the half-open state, which
	// its probes end.
	Forced bool
	// Shared marks a forced state as that of the whole fleet.
	Shared bool
	// ConsecutiveFailures is the number of consecutive failures so far.
	ConsecutiveFailures int
	// ConsecutiveOpenings is the number of consecutive openings so far, including the one that this override makes. 0 keeps the
	// breaker's own number. It has no effect on a forced state.
	ConsecutiveOpenings int
	// NamedEnd marks the end of an open state that is not forced as one that the upstream has named: see Call.RetryAfter. A changed
	// policy does not change it.
	NamedEnd bool
	Cause    events.Cause
	// FleetCause is why the fleet has decided on the state, if Cause is events.CauseFleet: the cause of the change at the instance that
	// made the decision.
	FleetCause events.Cause
	Reason     string
}

// SetState sets the breaker's state, whatever state it is in. The reports of calls in flight have no effect. It publishes a
// StateChanged if the state differs from the current one.
func (b *Breaker) SetState(o StateOverride) {
	b.setStateIf(o, always, func() {})
}

func always() bool { return true }

// SetStateIf is SetState if condition returns true for the breaker's status at that moment, and reports whether it did. condition
// is called while a lock is held: it must return at once and must not call the breaker.
func (b *Breaker) SetStateIf(o StateOverride, condition func(events.BreakerStatus) bool) (applied bool) {
	b.setStateIf(o, func() bool { return condition(b.statusOf(b.current.Load())) }, func() { applied = true })
	return applied
}

// setStateIf sets the state if condition returns true, and then calls onApplied. Both are called with b.mu held, so no other
// change is published between the change of the state and the end of onApplied.
func (b *Breaker) setStateIf(o StateOverride, condition func() bool, onApplied func()) {
	for {
		policy := b.policy.Load()
		// A half-open engine takes some time to construct, which must not be spent under the lock.
		var halfOpen *engine
		if o.State == events.HalfOpen {
			halfOpen = newHalfOpenEngine(&b.env, &b.policy)
		}
		b.mu.Lock()
		b.applyTransitionsLocked()
		stale := halfOpen != nil && policy != b.policy.Load()
		if !stale && condition() {
			b.applyOverride(o, halfOpen)
			onApplied()
		}
		b.mu.Unlock()
		if !stale {
			return
		}
	}
}

// applyOverride enters the phase that o describes. halfOpen is its engine if it is half-open. b.mu is held.
func (b *Breaker) applyOverride(o StateOverride, halfOpen *engine) {
	now := b.env.now()
	prev := b.current.Load()
	next := &phase{state: o.State, since: now, fleetCause: o.FleetCause, consecutiveFailures: o.ConsecutiveFailures}
	duration := o.Duration
	switch {
	case !o.Since.IsZero() && o.Since.Before(now):
		next.since = o.Since
	case prev.state == o.State:
		next.since = prev.since
	}
	if o.Forced && o.State != events.HalfOpen {
		next.forced = &events.ForcedState{State: o.State, Reason: o.Reason, Shared: o.Shared}
	} else if next.consecutiveOpenings = o.ConsecutiveOpenings; next.consecutiveOpenings == 0 {
		next.consecutiveOpenings = b.consecutiveOpenings(prev, now)
	}
	switch o.State {
	case events.Open:
		if next.forced == nil {
			next.consecutiveOpenings = max(next.consecutiveOpenings, 1)
			next.namedEnd = o.NamedEnd
			next.random = b.env.Random()
			if duration == 0 {
				duration = b.policy.Load().openDuration(next.consecutiveOpenings, next.random)
			}
		}
		if duration > 0 {
			next.until = now.Add(duration)
		}
	case events.HalfOpen:
		next.engine = halfOpen
	default:
		if o.Forced && duration > 0 {
			next.until = now.Add(duration)
		}
		next.engine, next.ramp = newClosedEngine(&b.env, &b.policy, o.Forced), !o.Forced && (prev.ramp || prev.state != events.Closed)
	}
	if next.forced != nil {
		next.forced.Until = next.until
	}
	b.transitionTo(next, events.StateChanged{Time: now, Cause: o.Cause, Reason: o.Reason})
}

// Force sets the state for an operator. Open and Closed are forced for d, or until Release if d is 0. HalfOpen starts probing
// now, and the probes end it.
func (b *Breaker) Force(state events.State, d time.Duration, reason string) {
	forced := state != events.HalfOpen
	o := StateOverride{State: state, Duration: d, Forced: forced, Cause: events.CauseForced, Reason: reason}
	b.setStateIf(o, always, func() {
		if !forced { // transitionTo publishes events.Forced only for a forced phase, and a half-open one never is
			b.publish(events.Forced{Time: b.env.now(), Service: b.service, State: state.String(), Reason: reason})
		}
	})
}

// Release ends a forced state. A breaker that was forced open becomes half-open; one that was forced closed stays closed and
// counts from zero. Release does nothing if the state is not forced.
func (b *Breaker) Release(reason string) {
	if p := b.current.Load(); p.forced != nil {
		b.release(p, events.CauseReleased, reason)
	}
}

// release ends the forced phase p if it is still current.
func (b *Breaker) release(p *phase, cause events.Cause, reason string) {
	o := StateOverride{State: events.Closed, Cause: cause, Reason: reason}
	if p.state == events.Open {
		o.State = events.HalfOpen
	}
	b.setStateIf(o, func() bool { return b.current.Load() == p }, func() {})
}
