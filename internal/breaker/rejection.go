package breaker

import (
	"time"

	"cbproxy/internal/events"
)

// rejection is why a call is rejected.
type rejection int

const (
	rejectedOpen rejection = iota
	rejectedHalfOpenLimit
	rejectedThrottled
	rejectedRecovering
	rejections // the number of rejections
)

// rejectionErrors are the errors of Allow, and rejectionStates the states of a Call, by the rejection.
var (
	rejectionErrors = [rejections]error{ErrOpen, ErrHalfOpenLimit, ErrThrottled, ErrRecovering}
	rejectionStates = [rejections]events.State{events.Open, events.HalfOpen, events.Closed, events.Closed}
)

// rejectionIn returns the rejection of a breaker that is open or half-open.
func rejectionIn(s events.State) rejection {
	if s == events.HalfOpen {
		return rejectedHalfOpenLimit
	}
	return rejectedOpen
}

// reject returns the result of Allow for a call that was asked for at a time and is rejected. If shadow is set, it admits a call that
// is no active probe, and counts it.
func (b *Breaker) reject(r rejection, asked time.Time, shadow, active bool) (Call, error) {
	call := Call{State: rejectionStates[r]}
	switch {
	case shadow && !active:
		b.shadowed[r].Add(1)
		if b.ofService != nil {
			b.ofService.shadowed[r].Add(1)
		}
		call.breaker, call.asked = b, asked
		return call, nil
	case !active && !asked.IsZero():
		b.env.Record(events.Call{Time: asked, Result: events.ResultRejected})
	}
	if p := b.current.Load(); r == rejectedOpen {
		if call.RetryAt = p.until; p.state != events.Open {
			call.RetryAt = b.env.now() // the open period has ended since
		}
	}
	return call, rejectionErrors[r]
}

// rejectClosed reports whether the closed phase p rejects a call, and why.
func (b *Breaker) rejectClosed(policy *Policy, p *phase) (r rejection, rejected bool) {
	if p.ramp && policy.RecoveryRamp > 0 {
		if b.env.Random() >= admittedRatio(policy, p, b.env.now()) {
			return rejectedRecovering, true
		}
	}
	if !p.engine.forced && !(policy.ByKey && p.engine.dominated.Load()) && !p.engine.decider.admit() {
		return rejectedThrottled, true
	}
	return 0, false
}

// leastAdmittedRatio is the share of calls that is admitted directly after the breaker has closed.
const leastAdmittedRatio = 0.1

// admittedRatio returns the share of calls that phase p admits while it recovers, 1 if it does not.
func admittedRatio(policy *Policy, p *phase, now time.Time) float64 {
	if !p.ramp || policy.RecoveryRamp <= 0 {
		return 1
	}
	return min(max(leastAdmittedRatio, float64(now.Sub(p.since))/float64(policy.RecoveryRamp)), 1)
}
