package breaker

import (
	"cmp"
	"math/rand/v2"
	"time"

	"cbproxy/internal/events"
)

// ForcedState is an operator's hand on a breaker.
type ForcedState struct {
	State events.State
	// Until is when the breaker becomes its own again; zero if only Release ends the hold.
	Until  time.Time
	Reason string
	// Shared tells that it holds the whole fleet, and not this breaker alone.
	Shared bool
}

// StateOverride is a state to put a breaker into.
type StateOverride struct {
	State events.State
	// Since is when the state began, if that was before now.
	Since time.Time
	// Duration is how long the state lasts, from now on. Duration an opening without Hold, 0 is what the policy
	// says of an opening in that row; with Hold, 0 is until Release. Closed and half-open
	// states have an end only with Hold.
	Duration time.Duration
	// Forced keeps the breaker in State, whatever its upstream does. It has no meaning for
	// the half-open state, whose probes decide.
	Forced bool
	// Shared marks a Hold as the whole fleet's.
	Shared bool
	// ConsecutiveFailures is the number of consecutive failures to carry on from.
	ConsecutiveFailures int
	// ConsecutiveOpenings is the number of openings in a row to carry on from, an opening itself
	// included; 0 is the row that the breaker is in, or a new one. Hold ends any row.
	ConsecutiveOpenings int
	Cause               events.Cause
	Reason              string
}

// SetState puts the breaker into a state, from whatever state it is in. Calls under way count
// for nothing any more. It publishes a StateChanged if the state is another one.
func (b *Breaker) SetState(p StateOverride) {
	b.SetStateIf(p, func(Status) bool { return true })
}

// SetStateIf is Put if wanted says so of the breaker as it is at that moment, and tells whether it
// did. wanted is called while a lock is held: it must return at once and not call back.
func (b *Breaker) SetStateIf(p StateOverride, wanted func(Status) bool) (done bool) {
	b.put(p, func() bool { return wanted(b.statusOf(b.current.Load())) }, func() { done = true })
	return done
}

// put puts the breaker into p if, under the lock, wanted still says so, and then calls
// done before any other change can be published.
func (b *Breaker) put(p StateOverride, wanted func() bool, done func()) {
	for {
		policy := b.policy.Load()
		// A half-open engine needs a moment to be born, which must not be under the lock.
		var halfOpen *engine
		if p.State == events.HalfOpen {
			halfOpen = newHalfOpenEngine(&b.policy)
		}
		b.mu.Lock()
		b.settleLocked()
		stale := halfOpen != nil && policy != b.policy.Load()
		if !stale && wanted() {
			b.place(p, halfOpen)
			done()
		}
		b.mu.Unlock()
		if !stale {
			return
		}
	}
}

func (b *Breaker) place(p StateOverride, halfOpen *engine) {
	now := time.Now()
	was := b.current.Load()
	next := &stretch{state: p.State, since: now, failures: p.ConsecutiveFailures}
	switch {
	case !p.Since.IsZero() && p.Since.Before(now):
		next.since = p.Since
	case was.state == p.State:
		next.since = was.since
	}
	if p.Forced && p.State != events.HalfOpen {
		next.hold = &ForcedState{State: p.State, Reason: p.Reason, Shared: p.Shared}
	} else {
		next.openings = cmp.Or(p.ConsecutiveOpenings, b.row(was, now))
	}
	switch p.State {
	case events.Open:
		if next.hold == nil {
			next.openings, next.chance = max(next.openings, 1), rand.Float64() // #nosec G404 -- likewise no secret
			p.Duration = cmp.Or(p.Duration, b.policy.Load().opening(next.openings, next.chance))
		}
		if p.Duration > 0 {
			next.until = now.Add(p.Duration)
		}
		next.engine = b.engine(next.until)
	case events.HalfOpen:
		next.engine = halfOpen
	default:
		if p.Forced && p.Duration > 0 {
			next.until = now.Add(p.Duration)
		}
		next.engine = newEngine(&b.policy, p.Forced, 0)
	}
	if next.hold != nil {
		next.hold.Until = next.until
	}
	b.move(next, events.StateChanged{Time: now, Cause: p.Cause, Reason: p.Reason})
}

// Force is an operator's order: Open and Closed hold for d, or until Release if d is 0;
// HalfOpen starts probing now, and the probes decide.
func (b *Breaker) Force(state events.State, d time.Duration, reason string) {
	hold := state != events.HalfOpen
	p := StateOverride{State: state, Duration: d, Forced: hold, Cause: events.CauseForced, Reason: reason}
	b.put(p, func() bool { return true }, func() {
		if !hold {
			b.publish(events.Forced{Time: time.Now(), Service: b.service, State: state.String(), Reason: reason})
		}
	})
}

// Release gives a held breaker back to itself: one held open starts probing, one held
// closed stays closed and counts from zero. It does nothing to a breaker that is not held.
func (b *Breaker) Release(reason string) {
	if s := b.current.Load(); s.hold != nil {
		b.release(s, events.CauseReleased, reason)
	}
}

// release ends the hold of s, unless s is over already.
func (b *Breaker) release(s *stretch, cause events.Cause, reason string) {
	p := StateOverride{State: events.Closed, Cause: cause, Reason: reason}
	if s.state == events.Open {
		p.State = events.HalfOpen
	}
	b.put(p, func() bool { return b.current.Load() == s }, func() {})
}
