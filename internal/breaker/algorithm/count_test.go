package algorithm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

func countLimits(calls int) Limits {
	return Limits{Algorithm: "count", Options: &CountOptions{Calls: calls}}
}

var randomObservations = rapid.Custom(func(t *rapid.T) Observation {
	return rapid.SampledFrom([]Observation{
		{}, {}, {Failed: true}, {Failed: true}, {Slow: true}, {Failed: true, Slow: true}, {Slow: true, Abandoned: true},
	}).Draw(t, "call")
})

func TestCountMatchesAListOfCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.Custom(func(t *rapid.T) Limits {
			l := countLimits(rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, 100)).Draw(t, "calls"))
			l.MinRequests = rapid.IntRange(0, 8).Draw(t, "min_requests")
			l.FailureRatio = rapid.SampledFrom([]float64{0.2, 0.5, 0.9}).Draw(t, "failure_ratio")
			l.SlowCallRatio = rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(t, "slow_call_ratio")
			return l
		})
		limits := all.Draw(t, "limits")
		size := func() int { return limits.Options.(*CountOptions).Calls }
		a, calls := limits.New(), []Observation(nil)
		t.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "calls") {
					call := randomObservations.Draw(t, "call")
					calls = append(calls, call)
					calls = calls[max(0, len(calls)-size()):]
					if got, want := a.Observe(0, call), wantRatioCause(&limits, calls); got != want {
						t.Fatalf("cause %q, want %q of %d calls", got, want, len(calls))
					}
				}
			},
			"limits": func(t *rapid.T) {
				limits = all.Draw(t, "limits")
				a.Configure(0, new(limits))
				calls = slices.Clone(calls[max(0, len(calls)-size()):])
			},
			"": func(t *rapid.T) {
				if got, want := a.Counts(0), publicCounts(calls); got != want {
					t.Fatalf("counts %+v, want %+v", got, want)
				}
			},
		})
	})
}

// publicCounts counts calls.
func publicCounts(calls []Observation) (c events.Counts) {
	for _, call := range calls {
		c.Requests++
		if call.Failed {
			c.Failures++
		}
		if call.Slow {
			c.Slow++
		}
	}
	c.Successes = c.Requests - c.Failures
	return c
}

// wantRatioCause returns why a breaker opens that has counted calls.
func wantRatioCause(l *Limits, calls []Observation) events.Cause {
	c, all := publicCounts(calls), float64(len(calls))
	switch {
	case len(calls) == 0 || len(calls) < l.MinRequests:
		return ""
	case l.FailureRatio > 0 && float64(c.Failures)/all >= l.FailureRatio:
		return events.CauseFailureRatio
	case l.SlowCallRatio > 0 && float64(c.Slow)/all >= l.SlowCallRatio:
		return events.CauseSlowCallRatio
	}
	return ""
}
