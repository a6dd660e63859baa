package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// Status is a breaker at one moment.
type Status struct {
	State events.State
	Since time.Time
	// Cause is why the breaker is in State; "" if it has always been.
	Cause events.Cause
	// RetryAt is when an opening ends and probing begins; zero if the breaker is not open,
	// or is held open without end.
	RetryAt time.Time
	// Forced is an operator's hold, nil if there is none.
	Forced *ForcedState
	// ConsecutiveFailures counts the calls that failed in a row; an open or half-open
	// breaker remembers those that opened it.
	ConsecutiveFailures int
	// Window is what the ratios look at; nil if none is used. It is empty while the breaker
	// is not closed.
	Window *events.Counts
	// ConsecutiveOpenings counts the openings in a row, that is with no lasting recovery between them,
	// and so how far RecoveryBackoff has grown; an opening in progress is included. 0 once
	// the breaker has stayed closed for RecoveryTimeout, and in an operator's hold.
	ConsecutiveOpenings int
	// ProbesInFlight counts the calls under way that decide a half-open state, without those that any
	// other call may replace, and ProbesSucceeded those that have succeeded.
	ProbesInFlight, ProbesSucceeded int
	// LastFailure is the last failure reported, or that calls were too slow where that
	// opened the breaker since; nil if there was none.
	LastFailure *events.Failure
}

// Status returns the breaker as it is now, by the clock and not by the last call.
func (b *Breaker) Status() Status { return b.statusOf(b.now()) }

func (b *Breaker) statusOf(s *stretch) Status {
	status := Status{
		State:               s.state,
		Since:               s.since,
		Cause:               s.cause,
		Forced:              s.hold,
		ConsecutiveFailures: s.failures,
		ConsecutiveOpenings: b.row(s, time.Now()),
		LastFailure:         b.lastFailure.Load(),
	}
	switch s.state {
	case events.Open:
		status.RetryAt = s.until
	case events.HalfOpen:
		c := s.engine.cb.Counts()
		status.ProbesInFlight = int(c.Requests) - int(c.TotalExclusions) - int(c.TotalSuccesses) - int(c.TotalFailures)
		status.ProbesInFlight = max(status.ProbesInFlight-s.engine.probes.waiting(), 0)
		status.ProbesSucceeded = int(c.TotalSuccesses)
	case events.Closed:
		status.ConsecutiveFailures = int(s.engine.cb.Counts().ConsecutiveFailures)
	}
	if b.policy.Load().rolls() {
		status.Window = &events.Counts{ConsecutiveFailures: uint32(status.ConsecutiveFailures)}
		if s.state == events.Closed {
			t := s.engine.window.tally()
			status.Window.Requests, status.Window.Failures, status.Window.Slow = t.requests, t.failures, t.slow
			status.Window.Successes = t.requests - t.failures
		}
	}
	return status
}

// State returns the state as it is now.
func (b *Breaker) State() events.State { return b.now().state }

// StateAndRetryAt returns the state as it is now, and if that is open when it ends; zero if it is held without end.
func (b *Breaker) StateAndRetryAt() (events.State, time.Time) {
	s := b.now()
	if s.state != events.Open {
		return s.state, time.Time{}
	}
	return s.state, s.until
}

// RetryAt returns when the opening in progress ends; zero if the breaker is not open, or
// is held open without end. It costs no lock.
func (b *Breaker) RetryAt() time.Time {
	if s := b.current.Load(); s.state == events.Open {
		return s.until
	}
	return time.Time{}
}

// Transitions returns how many transitions have led to state.
func (b *Breaker) Transitions(state events.State) uint64 { return b.changes[state].Load() }

// ShadowRejections returns how many calls have passed that Enforce would have refused, by
// why: open, and half-open with its places taken or reserved. They never go down.
func (b *Breaker) ShadowRejections() (open, halfOpenLimit uint64) {
	return b.shadowed[events.Open].Load(), b.shadowed[events.HalfOpen].Load()
}

// now returns the current stretch, after ending one whose time is up.
func (b *Breaker) now() *stretch {
	s := b.current.Load()
	if !s.until.IsZero() && time.Now().After(s.until) {
		b.tick()
		s = b.current.Load()
	}
	return s
}
