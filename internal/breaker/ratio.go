package breaker

import (
	"time"

	"cbproxy/internal/events"
)

func init() {
	RegisterAlgorithm("ratio", AlgorithmFactory{New: func(p *Policy) Algorithm {
		if !p.usesRatios() {
			return nil
		}
		return new(ratio)
	}})
}

// ratio opens the breaker by the ratios of failures and of slow calls in a window of time.
type ratio struct {
	policy *Policy
	window window
}

// Configure implements Algorithm.
func (a *ratio) Configure(now time.Duration, p *Policy) {
	a.policy = p
	a.window.configure(now, p.Window)
}

// Observe implements Algorithm.
func (a *ratio) Observe(now time.Duration, call Observation) events.Cause {
	a.window.count(now, countsOf(call))
	return a.policy.exceededRatio(a.window.sum)
}

// Counts implements Algorithm.
func (a *ratio) Counts(now time.Duration) events.Counts { return a.window.counts(now).public() }

// usesRatios reports whether any of the ratios is a limit.
func (p *Policy) usesRatios() bool { return p.FailureRatio > 0 || p.SlowCallRatio > 0 }

// exceededRatio returns the cause for the first ratio that reaches its limit, "" if none does. It divides counts instead of
// multiplying limits, because 3 of 10 is then exactly the configured 0.3.
func (p *Policy) exceededRatio(c callCounts) events.Cause {
	if c.requests == 0 || int64(c.requests) < int64(p.MinRequests) {
		return ""
	}
	all := float64(c.requests)
	switch {
	case p.FailureRatio > 0 && float64(c.failures)/all >= p.FailureRatio:
		return events.CauseFailureRatio
	case p.SlowCallRatio > 0 && float64(c.slow)/all >= p.SlowCallRatio:
		return events.CauseSlowCallRatio
	}
	return ""
}
