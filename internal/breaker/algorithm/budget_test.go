package algorithm

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

// budgetLimits are limits with a failure ratio of 5 * (1 - 0.9) = 0.5.
func budgetLimits() Limits {
	return Limits{
		Algorithm:   "budget",
		Options:     &BudgetOptions{Objective: 0.9, BurnRate: 5, Short: time.Minute, Long: 10 * time.Minute},
		MinRequests: 4,
	}
}

// timedCall is a call, or a rejection, and when it was counted.
type timedCall struct {
	at time.Duration
	Observation
	rejected bool
}

// recent returns the calls that are younger than span.
func recent(calls []timedCall, now, span time.Duration) []timedCall {
	return slices.DeleteFunc(slices.Clone(calls), func(c timedCall) bool { return now-c.at >= span })
}

// observations returns those of calls that were made.
func observations(calls []timedCall) (made []Observation) {
	for _, c := range calls {
		if !c.rejected {
			made = append(made, c.Observation)
		}
	}
	return made
}

// Calls in windows of at most 6 s are exact if they are made at the same time or at least 100 ms apart: a slot has a single start then.
const exactSpan, exactStep = 6 * time.Second, 100 * time.Millisecond

func TestBudgetMatchesListsOfCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spans := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(int64(exactStep), int64(exactSpan)).Draw(t, "span"))
		})
		all := rapid.Custom(func(t *rapid.T) Limits {
			l, o := budgetLimits(), new(BudgetOptions)
			l.Options, l.MinRequests = o, rapid.IntRange(0, 8).Draw(t, "min_requests")
			o.Objective = rapid.SampledFrom([]float64{0.5, 0.75, 0.875}).Draw(t, "objective") // exact in floating point
			o.BurnRate = rapid.SampledFrom([]float64{0.5, 1, 2}).Draw(t, "burn_rate")
			o.Short, o.Long = spans.Draw(t, "short"), spans.Draw(t, "long")
			if o.Long < o.Short {
				o.Short, o.Long = o.Long, o.Short
			}
			return l
		})
		limits := all.Draw(t, "limits")
		a, now := limits.New(), time.Duration(0)
		var short, long []timedCall
		expire := func() *BudgetOptions {
			o := limits.Options.(*BudgetOptions)
			short, long = recent(short, now, o.Short), recent(long, now, o.Long)
			return o
		}
		burns := func(calls []timedCall, o *BudgetOptions) bool {
			c := publicCounts(observations(calls))
			return float64(c.Failures)/float64(c.Requests)/(1-o.Objective) >= o.BurnRate
		}
		t.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				for range rapid.IntRange(1, 10).Draw(t, "calls") {
					call := timedCall{at: now, Observation: randomObservations.Draw(t, "call")}
					got, want := a.Observe(now, call.Observation), events.Cause("")
					if !call.Abandoned {
						short, long = append(short, call), append(long, call)
						o := expire()
						if len(short) >= limits.MinRequests && burns(short, o) && burns(long, o) {
							want = events.CauseBurnRate
						}
					}
					if got != want {
						t.Fatalf("cause %q, want %q: short %+v, long %+v", got, want, short, long)
					}
				}
			},
			"wait": func(*rapid.T) {
				now += exactStep + time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "wait"))
			},
			"limits": func(t *rapid.T) {
				expire()
				limits = all.Draw(t, "limits")
				a.Configure(now, new(limits))
				expire()
			},
			"": func(t *rapid.T) {
				expire()
				if got, want := a.Counts(now), publicCounts(observations(short)); got != want {
					t.Fatalf("counts %+v, want %+v", got, want)
				}
			},
		})
	})
}

// With calls at any time, the counts are as exact as the slots of the windows, and the decision follows from them.
func TestBudgetStaysWithinTheBoundsOfItsWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			l, base := budgetLimits(), time.Now()
			o := l.Options.(*BudgetOptions)
			a := l.New().(*budget)
			short, long := &list{span: o.Short}, &list{span: o.Long}
			t.Repeat(map[string]func(*rapid.T){
				"call": func(t *rapid.T) {
					call := Observation{Failed: rapid.Bool().Draw(t, "failed")}
					pause := time.Duration(rapid.Int64Range(0, int64(o.Short)/15).Draw(t, "pause"))
					for range rapid.IntRange(1, 15).Draw(t, "calls") {
						cause := a.Observe(time.Since(base), call)
						short.count(countsOf(call))
						long.count(countsOf(call))
						burns := func(c callCounts) bool { return 2*c.failures >= c.requests }
						if want := a.short.sum.requests >= 4 && burns(a.short.sum) && burns(a.long.sum); want != (cause != "") {
							t.Fatalf("cause %q with %+v and %+v", cause, a.short.sum, a.long.sum)
						}
						time.Sleep(pause)
					}
				},
				"": func(t *rapid.T) {
					for w, l := range map[*window]*list{&a.short: short, &a.long: long} {
						got := w.counts(time.Since(base))
						l.expire()
						if least, most := l.bounds(); !within(least, got, most) {
							t.Fatalf("a window of %v has %+v, the list %+v to %+v", w.span, got, least, most)
						}
					}
				},
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.Int64Range(0, int64(o.Long)).Draw(t, "wait")))
				},
			})
		})
	})
}

func TestBudgetOptionsThatDoNotFitAreReported(t *testing.T) {
	tests := []struct {
		options BudgetOptions
		paths   string
	}{
		{BudgetOptions{Objective: 0.995, BurnRate: 14.4, Short: time.Minute, Long: 10 * time.Minute}, ""},
		{BudgetOptions{Objective: 0.99, BurnRate: 100, Short: time.Minute, Long: time.Minute}, ""}, // all calls fail
		{BudgetOptions{Objective: 0.99, BurnRate: 100.1, Short: time.Minute, Long: time.Minute}, "burn_rate"},
		{BudgetOptions{Objective: 0, BurnRate: 1, Short: time.Minute, Long: time.Minute}, "objective"},
		{BudgetOptions{Objective: 1, BurnRate: 1, Short: time.Minute, Long: time.Second}, "objective long"},
	}
	for _, test := range tests {
		var paths []string
		test.options.Validate(func(path, _ string) { paths = append(paths, path) })
		if got := strings.Join(paths, " "); got != test.paths {
			t.Errorf("%+v: reported %q, want %q", test.options, got, test.paths)
		}
	}
}
