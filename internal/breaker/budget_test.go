package breaker

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

// budgetPolicy is a policy whose limit is a failure ratio of 5 * (1 - 0.9) = 0.5.
func budgetPolicy() Policy {
	return Policy{
		Algorithm:        "budget",
		AlgorithmOptions: &BudgetOptions{Objective: 0.9, BurnRate: 5, Short: time.Minute, Long: 10 * time.Minute},
		SlowCallRatio:    0.5, SlowCallDuration: time.Second, // it counts durations, and budget takes no notice
		MinRequests: 4, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

func TestBudgetOpensByBothWindows(t *testing.T) {
	type step struct {
		wait    time.Duration
		results string
	}
	const outOfShort = 2 * time.Minute
	tests := []struct {
		name               string
		change             func(*BudgetOptions)
		steps              []step
		opensAt            int // the number of the call of the last step that opens the breaker; 0 is none
		requests, failures int // in the short window at the opening
	}{
		// Short and long: 3 are fewer than 4; 4/4 failed is a burn rate of 1 / 0.1 = 10.
		{"a total failure", nil, []step{{0, "ffffff"}}, 4, 4, 4},
		// 3/4 failed is a burn rate of 7.5.
		{"a success reaches min_requests", nil, []step{{0, "fffs"}}, 4, 4, 3},
		// 1/4 to 3/6 failed; 3/6 is a burn rate of exactly 5.
		{"exactly the burn rate", nil, []step{{0, "sssfff"}}, 6, 6, 3},
		// In floating point 1 - 0.99 is more than 0.01, but 1/10 failed is a burn rate of 10.
		{"a limit that is not exact", func(o *BudgetOptions) { o.Objective, o.BurnRate = 0.99, 10 }, []step{{0, "sssssssssf"}}, 10, 10, 1},
		// Short: 19/19 failed. Long: 19/39 failed, a burn rate of 4.9. With one failure more: 20/40, 5.
		{"the long window waits", nil, []step{{0, strings.Repeat("s", 20)}, {outOfShort, strings.Repeat("f", 25)}}, 20, 20, 20},
		// 3 failures in a short window are fewer than 4. At the end, long: 9/13 failed, a burn rate of 6.9; short: 0/4.
		{"the failure is over", nil, []step{{0, "fff"}, {outOfShort, "fff"}, {outOfShort, "fff"}, {outOfShort, "ssss"}}, 0, 0, 0},
		// The same, then short: 4/8 failed, 5; long: 13/17, 7.6. With one failure less, short: 3/7, 4.3.
		{"the failure is back", nil, []step{
			{0, "fff"}, {outOfShort, "fff"}, {outOfShort, "fff"}, {outOfShort, "ssss"}, {0, "fffff"},
		}, 4, 8, 4},
		// The successes are older than the long window: 4/4 failed.
		{"old calls are dropped", nil, []step{{0, strings.Repeat("s", 100)}, {10 * time.Minute, "ffff"}}, 4, 4, 4},
		// As above, but the successes are a nanosecond younger: 4/104 failed.
		{"the edge of the long window", nil, []step{{0, strings.Repeat("s", 100)}, {10*time.Minute - 1, "ffff"}}, 0, 0, 0},
		// Slow calls are successes: 0/10 failed. Abandoned and cancelled calls are none: 4/8 failed, not 4/14.
		{"slow and abandoned calls", nil, []step{{0, "SSSSaaacccffff"}}, 14, 8, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := budgetPolicy()
				if test.change != nil {
					test.change(p.AlgorithmOptions.(*BudgetOptions))
				}
				w := newTestBreaker(t, p)
				calls := 0
				for _, step := range test.steps {
					w.want(events.Closed)
					time.Sleep(step.wait)
					calls = w.report(step.results, 0)
				}
				if test.opensAt == 0 {
					w.want(events.Closed)
					return
				}
				w.want(events.Open)
				c := w.change.Load()
				if calls != test.opensAt || c.Cause != events.CauseBurnRate {
					t.Errorf("opened at call %d, %s; want call %d, %s", calls, c.Cause, test.opensAt, events.CauseBurnRate)
				}
				if n := c.Counts; int(n.Requests) != test.requests || int(n.Failures) != test.failures {
					t.Errorf("counts %+v, want %d calls, %d failures", n, test.requests, test.failures)
				}
			})
		})
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
		policies := rapid.Custom(func(t *rapid.T) Policy {
			p, o := budgetPolicy(), new(BudgetOptions)
			p.AlgorithmOptions, p.MinRequests = o, rapid.IntRange(0, 8).Draw(t, "min_requests")
			o.Objective = rapid.SampledFrom([]float64{0.5, 0.75, 0.875}).Draw(t, "objective") // exact in floating point
			o.BurnRate = rapid.SampledFrom([]float64{0.5, 1, 2}).Draw(t, "burn_rate")
			o.Short, o.Long = spans.Draw(t, "short"), spans.Draw(t, "long")
			if o.Long < o.Short {
				o.Short, o.Long = o.Long, o.Short
			}
			return p
		})
		policy := policies.Draw(t, "policy")
		a, now := newAlgorithm(&policy), time.Duration(0)
		var short, long []timedCall
		expire := func() *BudgetOptions {
			o := policy.AlgorithmOptions.(*BudgetOptions)
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
						if len(short) >= policy.MinRequests && burns(short, o) && burns(long, o) {
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
			"policy": func(t *rapid.T) {
				expire()
				policy = policies.Draw(t, "policy")
				a.Configure(now, new(policy))
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
			p, base := budgetPolicy(), time.Now()
			o := p.AlgorithmOptions.(*BudgetOptions)
			a := newAlgorithm(&p).(*budget)
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
