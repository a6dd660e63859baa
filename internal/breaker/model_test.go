package breaker

import (
	"fmt"
	"slices"
	"time"

	"cbproxy/internal/events"
)

// model is a circuit breaker as one would explain it: no engine, no lock, no clock of its
// own, and a list for a window. Every method brings it up to now first. It knows no jitter.
type model struct {
	policy   Policy
	state    events.State
	since    time.Time
	until    time.Time // zero: no end
	held     bool
	epoch    int // a call from another epoch counts for nothing
	failures int // in a row, while closed
	window   []counted
	openings int // in a row
	probes   int // allowed in this opening's half-open state
	admitted int
	passed   int
	shadowed [len(events.States)]uint64
	changes  []string
}

// counted is one call in the window.
type counted struct {
	at           time.Time
	failed, slow bool
}

func (m *model) to(state events.State, change string, at time.Time) {
	m.epoch++
	m.failures, m.admitted, m.passed = 0, 0, 0
	m.window = nil
	if m.state != state {
		m.changes = append(m.changes, fmt.Sprint(m.state, ">", state, " ", change, " ", at.UnixNano()))
		m.since = at
	}
	m.state, m.held, m.until = state, false, time.Time{}
}

func (m *model) open(change string) {
	if m.rowIsOver() {
		m.openings = 0
	}
	m.openings++
	m.to(events.Open, change, time.Now())
	m.probes = m.policy.HalfOpenRequests
	m.until = m.since.Add(m.opening(m.policy))
}

func (m *model) rowIsOver() bool {
	return m.state == events.Closed && time.Since(m.since) >= m.policy.RecoveryTimeout
}

// opening grows the opening step by step.
func (m *model) opening(p Policy) time.Duration {
	seconds, longest := p.RecoveryTimeout.Seconds(), max(p.RecoveryBackoff.Max, p.RecoveryTimeout).Seconds()
	for range m.openings - 1 {
		seconds = min(seconds*max(p.RecoveryBackoff.Multiplier, 1), longest)
	}
	return time.Duration(seconds * float64(time.Second))
}

func (m *model) tick() {
	over := !m.until.IsZero() && time.Now().After(m.until)
	switch {
	case !over:
	case m.state == events.Open:
		cause := events.CauseRecoveryTimeout
		if m.held {
			cause = events.CauseHoldEnded
		}
		m.to(events.HalfOpen, string(cause), m.until.Add(time.Nanosecond))
	case m.held:
		m.to(events.Closed, string(events.CauseHoldEnded), m.until)
	}
}

// allow returns also whether a report on the call can count.
func (m *model) allow() (shadowed, err error, counts bool) {
	m.tick()
	if m.policy.Mode == Off {
		return nil, nil, false
	}
	if m.policy.ActiveProbing && m.state == events.HalfOpen {
		err = ErrHalfOpenLimit
	} else {
		err = m.admit()
	}
	if err != nil && m.policy.Mode == Shadow {
		m.shadowed[m.state]++
		return err, nil, false
	}
	return nil, err, err == nil
}

func (m *model) allowProbe() (err error, counts bool) {
	m.tick()
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
	case m.state == events.HalfOpen && m.admitted >= m.probes:
		return ErrHalfOpenLimit
	}
	m.admitted++
	return nil
}

func (m *model) report(epoch int, verdict string, took time.Duration) {
	m.tick()
	if epoch != m.epoch {
		return
	}
	switch {
	case verdict == "cancel":
		m.admitted--
	case m.state == events.HalfOpen && verdict == "failure":
		m.open(string(events.CauseProbeFailed))
	case m.state == events.HalfOpen:
		if m.passed++; m.passed == m.probes {
			m.to(events.Closed, string(events.CauseProbesSucceeded), time.Now())
		}
	default:
		m.count(verdict == "failure", took)
	}
}

// count counts a call that was closed from its beginning to its end.
func (m *model) count(failed bool, took time.Duration) {
	p := m.policy
	if m.failures++; !failed {
		m.failures = 0
	}
	if m.held {
		return
	}
	if m.rolls() {
		m.window = append(m.window, counted{time.Now(), failed, p.SlowCallRatio > 0 && took >= p.SlowCallDuration})
	}
	m.expire()
	all, failures, slow := len(m.window), 0, 0
	for _, c := range m.window {
		if c.failed {
			failures++
		}
		if c.slow {
			slow++
		}
	}
	enough := all > 0 && all >= p.MinRequests
	counts := fmt.Sprint(all, all-failures, failures, slow, m.failures)
	switch {
	case failed && p.FailMax > 0 && m.failures >= p.FailMax:
		m.open(string(events.CauseConsecutiveFailures))
	case enough && p.FailureRatio > 0 && float64(failures)/float64(all) >= p.FailureRatio:
		m.open(string(events.CauseFailureRatio) + counts)
	case enough && p.SlowCallRatio > 0 && float64(slow)/float64(all) >= p.SlowCallRatio:
		m.open(string(events.CauseSlowCallRatio) + counts)
	}
}

func (m *model) rolls() bool { return m.policy.FailureRatio > 0 || m.policy.SlowCallRatio > 0 }

func (m *model) expire() {
	m.window = slices.DeleteFunc(m.window, func(c counted) bool { return time.Since(c.at) >= m.policy.Window })
}

func (m *model) setPolicy(p Policy) {
	m.tick()
	if m.state == events.Open {
		m.probes = p.HalfOpenRequests
		if !m.held && m.opening(p) != m.opening(m.policy) {
			m.until = m.since.Add(m.opening(p))
			if m.until.Before(time.Now()) { // over as soon as the clock moves
				m.until = time.Now().Add(time.Nanosecond)
			}
		}
	}
	m.expire()
	m.policy = p
	m.expire()
	if !m.rolls() {
		m.window = nil
	}
}

func (m *model) force(state events.State, d time.Duration) {
	m.tick()
	if m.rowIsOver() || state != events.HalfOpen {
		m.openings = 0
	}
	m.to(state, string(events.CauseForced), time.Now())
	m.probes = m.policy.HalfOpenRequests
	if state == events.HalfOpen {
		return
	}
	m.held = true
	if d > 0 {
		m.until = time.Now().Add(d)
	}
}

func (m *model) release() {
	m.tick()
	if !m.held {
		return
	}
	to := events.Closed
	if m.state == events.Open {
		to = events.HalfOpen
	}
	m.to(to, string(events.CauseReleased), time.Now())
	m.probes = m.policy.HalfOpenRequests
}
