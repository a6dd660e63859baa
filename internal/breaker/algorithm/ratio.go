package algorithm

import (
	"time"

	"cbproxy/internal/events"
)

func init() {
	Register("ratio", Factory{
		Used:       (*Limits).usesRatios,
		New:        func() Algorithm { return new(ratio) },
		ByFailures: true,
	})
}

// ratio opens the breaker by the ratios of failures and of slow calls in a window of time.
type ratio struct {
	limits *Limits
	window window
}

// Configure implements Algorithm.
func (a *ratio) Configure(now time.Duration, l *Limits) {
	a.limits = l
	a.window.configure(now, l.Window)
}

// Observe implements Algorithm.
func (a *ratio) Observe(now time.Duration, call Observation) events.Cause {
	a.window.count(now, countsOf(call))
	return a.limits.exceededRatio(a.window.sum)
}

// Counts implements Algorithm.
func (a *ratio) Counts(now time.Duration) events.Counts { return a.window.counts(now).public() }
