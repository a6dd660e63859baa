package fleet

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// endTolerance is the difference between two times that still counts as the same time.
const endTolerance = 20 * time.Millisecond

// applyDecision sets the probe permit and the breaker's state according to the last known decision.
func (p *protocol) applyDecision(sharing Sharing, now time.Time) {
	if !sharing.Enabled || !p.clock.known() {
		return
	}
	status := p.breaker.Status()
	p.updatePermit(&status, sharing, now) // first, so that no call probes in between
	p.setBreakerState(&status, now)
}

// setBreakerState sets the breaker to the state of the last known decision, unless it has been
// applied already.
func (p *protocol) setBreakerState(status *events.BreakerStatus, now time.Time) {
	if p.ignoresFleet(status) {
		p.applied = 0 // the decision is applied once the breaker follows the fleet again
		return
	}
	if p.known.Epoch <= p.applied {
		return
	}
	cause := events.CauseFleet
	if c := p.known.Cause; p.known.Instance == p.instance && (c == events.CauseForced || c == events.CauseReleased) {
		cause = c // the command was sent to this instance
	}
	o := OverrideFor(p.known, p.clock.toRemote(now), cause)
	decided := p.clock.toLocal(p.known.Timestamp)
	p.breaker.SetStateIf(o, func(s events.BreakerStatus) bool { return !p.ignoresFleet(&s) && shouldApply(&o, &s, decided) })
	p.applied = p.known.Epoch
}

// ignoresFleet reports whether the breaker does not follow the fleet: its state is forced on this
// instance alone, or its mode is off.
func (p *protocol) ignoresFleet(s *events.BreakerStatus) bool {
	return s.Forced != nil && !s.Forced.Shared || p.breaker.Policy().Mode == breaker.Off
}

// shouldApply reports whether a decision that was made at decided applies to a breaker with status
// s. It does not if the breaker has changed its state since then, because of its own calls or a
// command to this instance, unless the state is forced.
func shouldApply(o *breaker.StateOverride, s *events.BreakerStatus, decided time.Time) bool {
	newer := s.Since.Sub(decided) > endTolerance // otherwise the decision may be based on this very change
	switch s.State {
	case events.Open:
		newer = newer && openedByItself(s)
	case events.HalfOpen:
		newer = newer && (s.Cause == events.CauseForced || s.Cause == events.CauseReleased || s.Cause == events.CauseForceExpired)
	default:
		newer = newer && s.Cause == events.CauseProbesSucceeded
	}
	switch {
	case o.Forced || s.Forced != nil:
		return true
	case newer:
		return false
	case o.State == events.Open && s.State == events.Open:
		later := s.RetryAt.Sub(time.Now().Add(o.Duration))
		if o.NamedEnd && s.Cause == events.CauseRetryAfter && later > 0 {
			return false // a response to this instance named a later end, which it shares next
		}
		return later.Abs() > endTolerance
	}
	return s.State != o.State
}

// probePermit determines whether a half-open breaker admits calls. It is immutable.
type probePermit struct {
	required bool      // only the fleet's prober may probe
	until    time.Time // when the permit of this instance ends; zero if it is not the prober
}

// mayProbe reports whether a call may probe the upstream. Every instance may probe if Redis is not
// available. It is safe for concurrent use.
func (p *protocol) mayProbe() bool {
	permit := p.permit.Load()
	now := time.Now()
	switch {
	case permit.required && now.Before(permit.until):
		p.lastProbe.set(now)
		return true
	case !permit.required || p.disconnected(now):
		return true
	}
	if !p.probeWanted.Swap(true) {
		p.wakeUp()
	}
	return false
}

// updatePermit sets the probe permit, and publishes it if this instance has become the prober.
func (p *protocol) updatePermit(status *events.BreakerStatus, sharing Sharing, now time.Time) {
	permit := probePermit{required: sharing.Enabled && p.probingNeeded(status, now)}
	if p.isProber() {
		permit.until = p.lease.until()
	}
	old := p.permit.Load()
	if permit == *old {
		return
	}
	p.permit.Store(&permit)
	if old.until.IsZero() && !permit.until.IsZero() {
		p.breaker.PublishProbeGranted()
	}
}
