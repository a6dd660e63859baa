package fleet

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// StateOf returns what is to be kept of a breaker, by the host's clock.
func StateOf(service, instance string, status breaker.Status) store.State {
	s := store.State{
		Service: service, State: status.State, Timestamp: status.Since, Failures: status.ConsecutiveFailures,
		Instance: instance, Openings: status.ConsecutiveOpenings, Cause: status.Cause,
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

// OverrideFor returns how a breaker is put into s at a moment, which is by the clock of s. An
// opening or a hold has what is left of its time; one whose time is up is probed, or over.
func OverrideFor(s store.State, at time.Time, cause events.Cause) breaker.StateOverride {
	now := time.Now()
	p := breaker.StateOverride{State: s.State, ConsecutiveFailures: s.Failures, ConsecutiveOpenings: s.Openings, Cause: cause, Reason: s.Reason}
	remaining, age, endless := s.Remaining(at)
	switch {
	case s.Forced && (endless || remaining > 0):
		p.Forced, p.Shared, p.Duration, p.Since = true, s.Shared, remaining, now.Add(-age)
	case s.State == events.Open && remaining > 0:
		p.Duration, p.Since = remaining, now.Add(-age)
	case s.State == events.Open:
		p.State = events.HalfOpen
	case s.State == events.Closed:
		p.Since = now.Add(-max(at.Sub(s.Timestamp), 0))
	}
	return p
}

// Restore puts a breaker that was just born into the state that was kept before the process
// ended, by the host's clock. What a closed breaker had counted is not kept, and no opening is
// longer than the policy in force allows.
func Restore(b *breaker.Breaker, s store.State) {
	if policy := b.Policy(); s.State == events.Open && !s.Forced {
		if longest := s.OpenedAt.Add(policy.MaxOpening(s.Openings)); longest.Before(s.Until) {
			s.Until = longest
		}
	}
	p := OverrideFor(s, time.Now(), events.CauseRestored)
	if p.State == events.Closed && !p.Forced && p.ConsecutiveOpenings == 0 {
		return
	}
	b.SetState(p)
}

// openedByItself tells whether the breaker opened because of what it found itself.
func openedByItself(s *breaker.Status) bool {
	return s.State == events.Open && s.Forced == nil && s.Cause != events.CauseFleet && s.Cause != events.CauseForced
}
