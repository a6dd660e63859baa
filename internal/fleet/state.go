package fleet

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// StateOf returns the state to store for a breaker, with times of the host's clock.
func StateOf(service, instance string, status events.BreakerStatus) store.State {
	s := store.State{
		Service: service, State: status.State, Timestamp: status.Since, Failures: status.ConsecutiveFailures,
		Instance: instance, ConsecutiveOpens: status.ConsecutiveOpenings, Cause: status.Cause,
	}
	switch {
	case status.Forced != nil:
		s.Forced, s.Shared, s.Reason = true, status.Forced.Shared, status.Forced.Reason
		s.OpenedAt, s.Until = status.Since, status.Forced.Until
	case status.State == events.Open:
		s.OpenedAt, s.Until = status.Since, status.RetryAt
	}
	return s
}

// OverrideFor returns the override that sets a breaker to s as of at, a time of the clock that s
// uses. An opening or a forced state has its remaining duration. An opening that has ended becomes
// half-open, and a forced closed state that has ended becomes closed.
func OverrideFor(s store.State, at time.Time, cause events.Cause) breaker.StateOverride {
	now := time.Now()
	o := breaker.StateOverride{State: s.State, ConsecutiveFailures: s.Failures, ConsecutiveOpenings: s.ConsecutiveOpens, Cause: cause, Reason: s.Reason}
	if cause == events.CauseFleet {
		o.FleetCause = s.Cause
	}
	remaining, age, endless := s.Remaining(at)
	switch {
	case s.Forced && (endless || remaining > 0):
		o.Forced, o.Shared, o.Duration, o.Since = true, s.Shared, remaining, now.Add(-age)
	case s.State == events.Open && remaining > 0:
		o.Duration, o.Since = remaining, now.Add(-age)
		o.NamedEnd = s.Cause == events.CauseRetryAfter
	case s.State == events.Open:
		o.State = events.HalfOpen
	case s.State == events.Closed:
		o.Since = now.Add(-max(at.Sub(s.Timestamp), 0))
	}
	return o
}

// Restore sets a new breaker to the state that was stored before the process ended, with times of
// the host's clock. The counts of a closed breaker are not restored, and an opening is at most as
// long as the current policy allows.
func Restore(b *breaker.Breaker, s store.State) {
	cause, now := events.CauseRestored, time.Now()
	if policy := b.Policy(); s.State == events.Open && !s.Forced {
		longest := s.OpenedAt.Add(policy.MaxOpenDuration(s.ConsecutiveOpens))
		if s.Cause == events.CauseRetryAfter {
			longest = now.Add(policy.RetryAfterMax) // later answers may have prolonged it
			cause = s.Cause                         // so that it can still be prolonged, and the next restart keeps it, too
		}
		if longest.Before(s.Until) {
			s.Until = longest
		}
	}
	o := OverrideFor(s, now, cause)
	if o.State == events.Closed && !o.Forced && o.ConsecutiveOpenings == 0 {
		return
	}
	b.SetState(o)
}

// openedByItself reports whether the breaker is open because of its own calls.
func openedByItself(s *events.BreakerStatus) bool {
	return s.State == events.Open && s.Forced == nil && s.Cause != events.CauseFleet && s.Cause != events.CauseForced
}
