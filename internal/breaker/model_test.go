package breaker

import (
	"fmt"
	"slices"
	"time"

	"cbproxy/internal/events"
)

// model is a simple circuit breaker: without engine, lock and timer, and with a list of calls as
// its window. Every method first applies what the passing of time has caused. It has no jitter, and no algorithm that uses random
// numbers.
type model struct {
	policy              Policy
	state               events.State
	since               time.Time
	until               time.Time // zero: no end
	forced              bool
	epoch               int // incremented by each transition; reports from another epoch have no effect
	consecutiveFailures int // while closed
	window              []counted
	consecutiveOpenings int
	byRetryAfter        bool        // the opening was caused by retryAfter
	retryAfters         []time.Time // that calls have named without a success or failure in between
	permits             int         // of the half-open state that follows or is current
	admitted            int
	succeeded           int
	shadowed            [len(events.States)]uint64
	changes             []string
}

func (m *model) to(state events.State, change string, at time.Time) {
	m.epoch++
	m.consecutiveFailures, m.admitted, m.succeeded = 0, 0, 0
	m.window = nil
	if m.state != state {
		m.changes = append(m.changes, fmt.Sprint(m.state, ">", state, " ", change, " ", at.UnixNano()))
		m.since = at
	}
	m.state, m.forced, m.byRetryAfter, m.until = state, false, false, time.Time{}
}

func (m *model) open(change string) {
	if m.recovered() {
		m.consecutiveOpenings = 0
	}
	m.consecutiveOpenings++
	m.to(events.Open, change, time.Now())
	m.permits = m.policy.HalfOpenRequests
	m.until = m.since.Add(m.opening(m.policy))
}

// recovered reports whether the breaker has been closed for so long that the backoff starts again.
func (m *model) recovered() bool {
	return m.state == events.Closed && time.Since(m.since) >= m.policy.RecoveryTimeout
}

// opening returns the duration of the current opening.
func (m *model) opening(p Policy) time.Duration {
	seconds, longest := p.RecoveryTimeout.Seconds(), max(p.RecoveryBackoff.Max, p.RecoveryTimeout).Seconds()
	for range m.consecutiveOpenings - 1 {
		seconds = min(seconds*max(p.RecoveryBackoff.Multiplier, 1), longest)
	}
	return time.Duration(seconds * float64(time.Second))
}

// advance applies what the passing of time has caused.
func (m *model) advance() {
	expired := !m.until.IsZero() && !time.Now().Before(m.until)
	switch {
	case !expired:
	case m.state == events.Open:
		cause := events.CauseRecoveryTimeout
		if m.forced {
			cause = events.CauseForceExpired
		}
		m.to(events.HalfOpen, string(cause), m.until)
	case m.forced:
		m.to(events.Closed, string(events.CauseForceExpired), m.until)
	}
}

// allow also returns whether a report on the call has an effect.
func (m *model) allow() (err error, counts bool) {
	m.advance()
	if m.policy.Mode == Off {
		return nil, false
	}
	if m.policy.ActiveProbing && m.state == events.HalfOpen {
		err = ErrHalfOpenLimit
	} else {
		err = m.admit()
	}
	if err != nil && m.policy.Mode == Shadow {
		m.shadowed[m.state]++
		return nil, false
	}
	return err, err == nil
}

func (m *model) allowProbe() (err error, counts bool) {
	m.advance()
	if m.policy.Mode == Off {
		return nil, false
	}
	err = m.admit()
	return err, err == nil
}

func (m *model) admit() error {
	switch {
	case m.state == events.Open:
		return ErrOpen
	case m.state == events.HalfOpen && m.admitted >= m.permits:
		return ErrHalfOpenLimit
	}
	m.admitted++
	return nil
}

func (m *model) report(epoch int, result string, took time.Duration) {
	m.advance()
	if epoch >= 0 && result != "cancel" {
		m.retryAfters = nil
	}
	if epoch != m.epoch {
		return
	}
	switch {
	case result == "cancel":
		m.admitted--
	case m.state == events.HalfOpen && result == "failure":
		m.open(string(events.CauseProbeFailed))
	case m.state == events.HalfOpen:
		if m.succeeded++; m.succeeded == m.permits {
			m.to(events.Closed, string(events.CauseProbesSucceeded), time.Now())
		}
	default:
		m.count(result == "failure", took)
	}
}

// retryAfter reports that the answer of a call asked for no call for d.
func (m *model) retryAfter(epoch int, d time.Duration) {
	m.report(epoch, "cancel", 0)
	if epoch < 0 || m.policy.RetryAfter == 0 || m.policy.Mode == Off {
		return
	}
	m.retryAfters = append(m.retryAfters, time.Now().Add(min(d, m.policy.RetryAfterMax)))
	latest := slices.MaxFunc(m.retryAfters, time.Time.Compare)
	if longest := time.Now().Add(m.policy.RetryAfterMax); latest.After(longest) {
		latest = longest
	}
	switch {
	case len(m.retryAfters) < m.policy.RetryAfter || !latest.After(time.Now()) || m.forced:
	case m.state != events.Open:
		if m.recovered() {
			m.consecutiveOpenings = 0
		}
		m.consecutiveOpenings = max(m.consecutiveOpenings, 1)
		m.to(events.Open, string(events.CauseRetryAfter), time.Now())
		m.permits, m.byRetryAfter, m.until = m.policy.HalfOpenRequests, true, latest
	case m.byRetryAfter && latest.After(m.until):
		m.until = latest
	}
}

func (m *model) setPolicy(p Policy) {
	m.advance()
	if m.state == events.Open {
		m.permits = p.HalfOpenRequests
		if !m.forced && !m.byRetryAfter && m.opening(p) != m.opening(m.policy) {
			m.until = m.since.Add(m.opening(p))
			if m.until.Before(time.Now()) {
				m.until = time.Now()
			}
		}
	}
	m.expire()
	other := p.Name() != m.policy.Name()
	m.policy = p
	m.expire()
	if other || !m.usesWindow() {
		m.window = nil
	}
}

func (m *model) force(state events.State, d time.Duration) {
	m.advance()
	if m.recovered() || state != events.HalfOpen {
		m.consecutiveOpenings = 0
	}
	m.to(state, string(events.CauseForced), time.Now())
	m.permits = m.policy.HalfOpenRequests
	if state == events.HalfOpen {
		return
	}
	m.forced = true
	if d > 0 {
		m.until = time.Now().Add(d)
	}
}

func (m *model) release() {
	m.advance()
	if !m.forced {
		return
	}
	to := events.Closed
	if m.state == events.Open {
		to = events.HalfOpen
	}
	m.to(to, string(events.CauseReleased), time.Now())
	m.permits = m.policy.HalfOpenRequests
}
