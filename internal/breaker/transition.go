package breaker

import (
	"fmt"
	"math/rand/v2"
	"time"

	"cbproxy/internal/events"
)

// settle turns what gobreaker noted under its lock into stretches and events.
func (b *Breaker) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settleLocked()
}

func (b *Breaker) settleLocked() {
	for {
		e := b.current.Load().engine
		notes := e.take()
		if len(notes) == 0 {
			return
		}
		for _, n := range notes {
			b.follow(n)
			if b.current.Load().engine != e {
				break // what the replaced engine did since counts for nothing
			}
		}
	}
}

// follow takes the breaker where its engine went.
func (b *Breaker) follow(n note) {
	was := b.current.Load()
	next := &stretch{engine: was.engine, state: n.to, since: n.at, openings: was.openings}
	var change events.StateChanged
	switch n.to {
	case events.Open:
		b.reopen(next, &change, n.verdict)
	case events.HalfOpen:
		change.Cause, next.failures = events.CauseRecoveryTimeout, was.failures
		if was.hold != nil {
			change.Cause, change.Reason = events.CauseHoldEnded, was.hold.Reason
		}
	default:
		change.Cause = events.CauseProbesSucceeded
	}
	b.move(next, change)
}

// reopen completes the opening next and its event with why it is, and for how long.
func (b *Breaker) reopen(next *stretch, change *events.StateChanged, v verdict) {
	was := b.current.Load()
	change.Cause, change.Counts, change.Failure = v.cause, v.counts, b.lastFailure.Load()
	next.failures = int(v.counts.ConsecutiveFailures)
	switch {
	case was.state == events.HalfOpen:
		next.failures = was.failures + 1
		change.Cause = events.CauseProbeFailed
		change.Counts = events.Counts{Requests: 1, Failures: 1, ConsecutiveFailures: uint32(next.failures)}
	case v.cause == events.CauseSlowCallRatio:
		change.Failure = slowness(next.since, v)
		if !v.failed { // what failed says more than that others were slow
			b.lastFailure.Store(change.Failure)
		}
	}
	next.openings, next.chance = b.row(was, next.since)+1, rand.Float64() // #nosec G404 -- spreads openings; no secret
	next.until = next.since.Add(b.policy.Load().opening(next.openings, next.chance))
	next.engine = b.engine(next.until)
}

func slowness(at time.Time, v verdict) *events.Failure {
	detail := fmt.Sprintf("%d of %d calls took %v or longer", v.counts.Slow, v.counts.Requests, v.slow)
	return &events.Failure{Time: at, Type: events.ErrorSlow, Detail: detail}
}

// row returns how many openings in a row led to s, as it stands at a moment: a recovery
// that has lasted ends the row.
func (b *Breaker) row(s *stretch, at time.Time) int {
	if s.state == events.Closed && at.Sub(s.since) >= b.policy.Load().RecoveryTimeout {
		return 0
	}
	return s.openings
}

// move enters next and publishes change, completed with what next says.
func (b *Breaker) move(next *stretch, change events.StateChanged) {
	was := b.current.Load()
	next.cause = change.Cause
	b.enter(next)
	defer b.publishHold(was, next, change.Reason)
	if was.state == next.state {
		return
	}
	b.changes[next.state].Add(1)
	if change.Time.IsZero() {
		change.Time = next.since
	}
	change.Service = b.service
	change.From, change.To = was.state, next.state
	if next.state == events.Open {
		change.Until = next.until
	}
	b.publish(change)
}

// publishHold tells that an operator's hold has begun, or ended.
func (b *Breaker) publishHold(was, next *stretch, reason string) {
	switch h := next.hold; {
	case h != nil:
		b.publish(events.Forced{
			Time: time.Now(), Service: b.service, State: h.State.String(), Until: h.Until, Reason: h.Reason, Shared: h.Shared,
		})
	case was.hold != nil:
		b.publish(events.Forced{Time: time.Now(), Service: b.service, State: "auto", Reason: reason, Shared: was.hold.Shared})
	}
}

// enter makes s current and sets the clock for its end.
func (b *Breaker) enter(s *stretch) {
	b.current.Store(s)
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if s.until.IsZero() || b.closed {
		return
	}
	// gobreaker's opening is over only after its last nanosecond.
	b.timer = time.AfterFunc(remaining(s.until)+time.Nanosecond, b.tick)
}

// tick ends the current stretch if its time is up. A late or early tick does no harm.
func (b *Breaker) tick() {
	s := b.current.Load()
	switch {
	case s.state == events.Open:
		s.engine.cb.State() // asking is what makes gobreaker leave an opening
		if s.engine.moved.Load() {
			b.settle()
			return
		}
		b.rearm(s)
	case s.hold != nil && !s.until.IsZero() && !time.Now().Before(s.until):
		b.release(s, events.CauseHoldEnded, s.hold.Reason)
	}
}

// rearm sets the clock again for a stretch that outlived its tick.
func (b *Breaker) rearm(s *stretch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current.Load() == s {
		b.enter(s)
	}
}
