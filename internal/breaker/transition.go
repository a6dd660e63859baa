package breaker

import (
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
	next := &stretch{engine: was.engine, state: n.to, since: n.at}
	change := events.StateChanged{Counts: events.Counts{
		Requests:            n.counts.Requests,
		Successes:           n.counts.TotalSuccesses,
		Failures:            n.counts.TotalFailures,
		ConsecutiveFailures: n.counts.ConsecutiveFailures,
	}}
	switch n.to {
	case events.Open:
		change.Cause, next.failures = events.CauseConsecutiveFailures, int(n.counts.ConsecutiveFailures)
		if was.state == events.HalfOpen {
			change.Cause, next.failures = events.CauseProbeFailed, was.failures+1
			change.Counts = events.Counts{Requests: 1, Failures: 1, ConsecutiveFailures: uint32(next.failures)}
		}
		change.Failure = b.lastFailure.Load()
		next.until = n.at.Add(b.policy.Load().RecoveryTimeout)
		next.engine = b.engine(remaining(next.until))
	case events.HalfOpen:
		change.Cause, next.failures = events.CauseRecoveryTimeout, was.failures
		if was.hold != nil {
			change.Cause, change.Reason = events.CauseHoldEnded, was.hold.Reason
		}
	default:
		change.Cause = events.CauseProbesSucceeded
	}
	b.move(next, change)
	if was.hold != nil {
		b.publishReleased(change.Reason)
	}
}

// move enters next and publishes change, completed with what next says.
func (b *Breaker) move(next *stretch, change events.StateChanged) {
	was := b.current.Load()
	b.enter(next)
	if was.state == next.state {
		return
	}
	b.changes[next.state].Add(1)
	change.Time = next.since
	change.Service = b.service
	change.From, change.To = was.state, next.state
	if next.state == events.Open {
		change.Until = next.until
	}
	b.publish(change)
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
