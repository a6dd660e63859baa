package breaker

import (
	"fmt"
	"slices"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// counted is one call in the window.
type counted struct {
	at           time.Time
	failed, slow bool
}

// count counts a call during which the breaker was closed.
func (m *model) count(failed bool, took time.Duration) {
	p := m.policy
	if m.consecutiveFailures++; !failed {
		m.consecutiveFailures = 0
	}
	if m.forced {
		return
	}
	if m.usesWindow() {
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
	counts := fmt.Sprint(all, all-failures, failures, slow, m.consecutiveFailures)
	switch {
	case failed && p.FailMax > 0 && m.consecutiveFailures >= p.FailMax:
		m.open(string(events.CauseConsecutiveFailures))
	case enough && p.FailureRatio > 0 && float64(failures)/float64(all) >= p.FailureRatio:
		m.open(string(events.CauseFailureRatio) + counts)
	case enough && p.SlowCallRatio > 0 && float64(slow)/float64(all) >= p.SlowCallRatio:
		m.open(string(events.CauseSlowCallRatio) + counts)
	}
}

func (m *model) usesWindow() bool { return m.policy.FailureRatio > 0 || m.policy.SlowCallRatio > 0 }

// expire drops the calls that the algorithm no longer counts.
func (m *model) expire() {
	if m.policy.Name() == "count" {
		m.window = m.window[max(0, len(m.window)-m.policy.Options.(*algorithm.CountOptions).Calls):]
		return
	}
	m.window = slices.DeleteFunc(m.window, func(c counted) bool { return time.Since(c.at) >= m.policy.Window })
}
