package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// phase is the time that a breaker spends in one state. It is immutable once it is current.
type phase struct {
	engine *engine // nil while open
	state  events.State
	since  time.Time
	until  time.Time           // when the timer ends the phase; zero if it has no end
	cause  events.Cause        // of the transition to state; "" for the initial closed state
	forced *events.ForcedState // nil if the state is not forced
	// fleetCause is StateOverride.FleetCause.
	fleetCause events.Cause
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

// currentPhase returns the current phase. It ends the phase first if its end has passed.
func (b *Breaker) currentPhase() *phase {
	p := b.current.Load()
	if b.hasEnded(p) {
		b.endExpiredPhase()
		p = b.current.Load()
	}
	return p
}

// hasEnded reports whether p has an end that has passed.
func (b *Breaker) hasEnded(p *phase) bool { return !p.until.IsZero() && !b.env.now().Before(p.until) }

// connect gives e what all engines of the breaker share. It must be called before e is shared.
func (b *Breaker) connect(e *engine) {
	if e != nil && e.decider.errors == nil {
		e.decider.errors, e.learning = &b.algorithmErrors, &b.learning
		if b.ofService != nil {
			e.decider.errors = &b.ofService.algorithmErrors
		}
	}
}

// setPhase makes p the current phase and sets the timer to its end. b.mu is held.
func (b *Breaker) setPhase(p *phase) {
	b.connect(p.engine)
	kind := events.ErrorType("")
	if f := b.lastFailure.Load(); f != nil {
		kind = f.Type
	}
	b.learning.phaseChanged(b.current.Load(), p, b.policy.Load(), kind)
	b.current.Store(p)
	if b.stopTimer != nil {
		b.stopTimer()
		b.stopTimer = nil
	}
	if p.until.IsZero() || b.closed {
		return
	}
	b.stopTimer = b.env.Clock.AfterFunc(max(p.until.Sub(b.env.now()), 0), b.endExpiredPhase)
}

// endExpiredPhase ends the current phase if its end has passed. It is called by the timer, and does no harm if it is called early
// or late.
func (b *Breaker) endExpiredPhase() {
	p := b.current.Load()
	switch {
	case !b.hasEnded(p):
		b.resetTimer(p)
	case p.state == events.Open:
		b.endOpenPhase(p)
	case p.forced != nil:
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
