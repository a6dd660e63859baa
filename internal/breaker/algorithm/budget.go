package algorithm

import (
	"time"

	"cbproxy/internal/events"
)

// BudgetOptions are the options of the algorithm budget.
type BudgetOptions struct {
	// Share of calls that are to succeed, above 0 and below 1. The rest is the error budget.
	Objective float64 `yaml:"objective" valid:"0..1" tune:"0.9 0.95 0.99 0.995 0.999"`
	// Burn rate that opens the breaker: the failure ratio divided by the error budget. It must be possible: at most 1 / (1 -
	// objective).
	BurnRate float64 `yaml:"burn_rate" valid:"positive" tune:"2 5 10 14.4 20 50"`
	// Short window. A failure that is over does not open the breaker. At least min_requests calls have to be in it.
	Short time.Duration `yaml:"short" valid:"100ms..24h" tune:"10s 30s 1m 5m"`
	// Long window, at least as long as the short one. A few failures do not open the breaker.
	Long time.Duration `yaml:"long" valid:"100ms..24h" tune:"1m 5m 10m 30m"`
}

// Validate reports values that do not fit together.
func (o *BudgetOptions) Validate(report func(path, message string)) {
	if o.Objective <= 0 || o.Objective >= 1 {
		report("objective", "must be above 0 and below 1")
	} else if o.BurnRate*(1-o.Objective) > 1+roundingError {
		report("burn_rate", "must be at most 1 / (1 - objective): a higher one is never reached")
	}
	if o.Long < o.Short {
		report("long", "must be at least short")
	}
}

func init() {
	Register("budget", Factory{
		Options: func() any {
			return &BudgetOptions{Objective: 0.995, BurnRate: 14.4, Short: time.Minute, Long: 10 * time.Minute}
		},
		New:        func() Algorithm { return new(budget) },
		ByFailures: true,
	})
}

// budget opens the breaker when failures use up the error budget too fast, over a short and over a long window: the multiwindow
// burn rate alert of The Site Reliability Workbook, chapter 5.
type budget struct {
	options     *BudgetOptions
	minRequests int
	short, long window
}

// Configure implements Algorithm.
func (a *budget) Configure(now time.Duration, l *Limits) {
	a.options, a.minRequests = l.Options.(*BudgetOptions), l.MinRequests
	a.short.configure(now, a.options.Short)
	a.long.configure(now, a.options.Long)
}

// Observe implements Algorithm. An abandoned call has neither used up the budget nor met the objective.
func (a *budget) Observe(now time.Duration, call Observation) events.Cause {
	if call.Abandoned {
		return ""
	}
	c := countsOf(call)
	a.short.count(now, c)
	a.long.count(now, c)
	if int64(a.short.sum.requests) < int64(a.minRequests) || !a.burns(a.short.sum) || !a.burns(a.long.sum) {
		return ""
	}
	return events.CauseBurnRate
}

// roundingError is the relative error that is allowed for the difference of 1 and a decimal fraction: 1 - 0.99 is more than 0.01.
const roundingError = 1e-9

// burns reports whether the burn rate of the calls in a window is at least the limit.
func (a *budget) burns(c callCounts) bool {
	return float64(c.failures) >= a.options.BurnRate*(1-a.options.Objective)*float64(c.requests)*(1-roundingError)
}

// Counts implements Algorithm. They are those of the short window.
func (a *budget) Counts(now time.Duration) events.Counts { return a.short.counts(now).public() }
