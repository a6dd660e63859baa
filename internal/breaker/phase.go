package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// phase is the time that a breaker spends in one state. It is immutable once it is current.
type phase struct {
	engine *engine
	state  events.State
	since  time.Time
	until  time.Time           // when the timer ends the phase; zero if it has no end
	cause  events.Cause        // of the transition to state; "" for the initial closed state
	forced *events.ForcedState // nil if the state is not forced
	// ramp reports that the breaker was open before, so that Policy.RecoveryRamp applies. It is set in a closed state only.
	ramp bool
	// namedEnd reports that the upstream has named the end of this open phase, and no policy.
	namedEnd bool
	// consecutiveFailures is the number of consecutive failures that opened the breaker, and of failed probes since.
	consecutiveFailures int
	// consecutiveOpenings is the number of openings without a lasting recovery between them, including the current one. It is 0
	// in a forced state.
	consecutiveOpenings int
	// random is the random number in [0, 1) that determines the duration of the open period. It is kept so that the duration
	// under a changed policy does not depend on when it is computed.
	random float64
}

// remaining returns the time until the end of an open period, at least 1 ns; noTimeout if until is zero.
func remaining(until time.Time) time.Duration {
	if until.IsZero() {
		return noTimeout
	}
	return max(time.Until(until), time.Nanosecond)
}

// currentPhase returns the current phase. It ends the phase first if its end has passed.
func (b *Breaker) currentPhase() *phase {
	p := b.current.Load()
	if !p.until.IsZero() && time.Now().After(p.until) {
		b.endExpiredPhase()
		p = b.current.Load()
	}
	return p
}

// countErrors makes the breaker count the errors of e's algorithm. It must be called before e is shared.
func (b *Breaker) countErrors(e *engine) {
	if e.decider.errors == nil {
		e.decider.errors = &b.algorithmErrors
	}
}

// setPhase makes p the current phase and sets the timer to its end. b.mu is held.
func (b *Breaker) setPhase(p *phase) {
	b.countErrors(p.engine)
	b.current.Store(p)
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if p.until.IsZero() || b.closed {
		return
	}
	// gobreaker ends an open period only after its last nanosecond.
	b.timer = time.AfterFunc(remaining(p.until)+time.Nanosecond, b.endExpiredPhase)
}

// endExpiredPhase ends the current phase if its end has passed. It is called by the timer, and does no harm if it is called early
// or late.
func (b *Breaker) endExpiredPhase() {
	p := b.current.Load()
	switch {
	case p.state == events.Open:
		p.engine.cb.State() // makes gobreaker end the open period
		if p.engine.hasPending.Load() {
			b.applyTransitions()
			return
		}
		b.resetTimer(p)
	case p.forced != nil && !p.until.IsZero() && !time.Now().Before(p.until):
		b.release(p, events.CauseForceExpired, p.forced.Reason)
	}
}

// resetTimer sets the timer again if p is still current after the timer has fired.
func (b *Breaker) resetTimer(p *phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current.Load() == p {
		b.setPhase(p)
	}
}
