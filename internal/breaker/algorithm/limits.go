package algorithm

import (
	"time"

	"cbproxy/internal/events"
)

// Default is the name of the algorithm of limits that name none.
const Default = "ratio"

// Limits are an algorithm and what it is configured with.
type Limits struct {
	// Algorithm is the name of the algorithm; "" is Default. Options are its options, as Factory.Options returns them, or nil, which
	// SetDefaultOptions replaces.
	Algorithm string
	Options   any
	// FailureRatio is the ratio of failures that opens the breaker; 0 is no limit.
	FailureRatio float64
	// SlowCallRatio is the ratio of calls with a duration of at least SlowCallDuration that opens the breaker; 0 is no limit.
	SlowCallRatio    float64
	SlowCallDuration time.Duration
	// MinRequests is the number of calls below which no ratio opens the breaker.
	MinRequests int
	// Window is the time for which calls count.
	Window time.Duration
}

// Name returns the name of the algorithm.
func (l *Limits) Name() string {
	if l.Algorithm == "" {
		return Default
	}
	return l.Algorithm
}

// SetDefaultOptions sets the options of the algorithm to their defaults if there are none.
func (l *Limits) SetDefaultOptions() {
	if f := l.factory(); l.Options == nil && f.Options != nil {
		l.Options = f.Options()
	}
}

// Used reports whether there is anything that the algorithm could do with these limits. It is false for one that is not registered.
func (l *Limits) Used() bool {
	f := l.factory()
	return f.New != nil && (f.Used == nil || f.Used(l))
}

// New returns an algorithm with these limits. It must not be called if Used returns false.
func (l *Limits) New() Algorithm {
	a := l.factory().New()
	a.Configure(0, l)
	return a
}

// UsesDetails reports whether the fields of an Observation that need Factory.Details are used.
func (l *Limits) UsesDetails() bool { return l.Used() && l.factory().Details }

// ByFailures reports whether there is no algorithm, or one with Factory.ByFailures.
func (l *Limits) ByFailures() bool { return !l.Used() || l.factory().ByFailures }

// UsesDurations reports whether the durations of calls are used.
func (l *Limits) UsesDurations() bool {
	if l.SlowCallRatio > 0 {
		return true
	}
	uses := l.factory().UsesDurations
	return uses != nil && uses(l)
}

// usesRatios reports whether any of the ratios is a limit.
func (l *Limits) usesRatios() bool { return l.FailureRatio > 0 || l.SlowCallRatio > 0 }

// exceededRatio returns the cause for the first ratio that reaches its limit, "" if none does. It divides counts instead of
// multiplying limits, because 3 of 10 is then exactly the configured 0.3.
func (l *Limits) exceededRatio(c callCounts) events.Cause {
	if c.requests == 0 || int64(c.requests) < int64(l.MinRequests) {
		return ""
	}
	all := float64(c.requests)
	switch {
	case l.FailureRatio > 0 && float64(c.failures)/all >= l.FailureRatio:
		return events.CauseFailureRatio
	case l.SlowCallRatio > 0 && float64(c.slow)/all >= l.SlowCallRatio:
		return events.CauseSlowCallRatio
	}
	return ""
}
