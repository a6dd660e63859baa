package breaker

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// algorithmPolicies are policies of each algorithm, none of which opens by fewer than 1000 calls.
var algorithmPolicies = map[string]func() Policy{
	"ratio": func() Policy {
		return Policy{Limits: algorithm.Limits{FailureRatio: 1, MinRequests: 1000, Window: time.Minute}, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
	},
	"count": func() Policy {
		p := countPolicy(1000)
		p.MinRequests = 1000
		return p
	},
	"budget": func() Policy {
		p := budgetPolicy()
		p.MinRequests = 1000
		return p
	},
	"throttle": func() Policy {
		p := throttlePolicy(algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0, MinRPS: 1})
		p.Window = time.Minute
		return p
	},
}

// wantCounts fails the test if the algorithm has not counted these calls.
func (w *testBreaker) wantCounts(requests, failures uint32) {
	w.t.Helper()
	if c := w.Status().Window; c == nil || c.Requests != requests || c.Failures != failures {
		w.t.Errorf("counts %+v, want %d calls and %d failures", c, requests, failures)
	}
}

func TestReloadKeepsTheCountsOfTheSameAlgorithm(t *testing.T) {
	tests := []struct {
		name               string
		algorithm          string
		change             func(*Policy)
		requests, failures uint32
	}{
		// Of 3 failures, 20 s later 4 successes and a failure.
		{"ratio: another limit", "ratio", func(p *Policy) { p.FailureRatio = 0.9 }, 8, 4},
		{"ratio: a shorter window", "ratio", func(p *Policy) { p.Window = 10 * time.Second }, 5, 1},
		{"ratio: a longer window", "ratio", func(p *Policy) { p.Window = time.Hour }, 8, 4},
		{"ratio: by its name", "ratio", func(p *Policy) { p.Algorithm = "ratio" }, 8, 4},
		{"count: more calls", "count", func(p *Policy) { p.Options = &algorithm.CountOptions{Calls: 2000} }, 8, 4},
		{"count: fewer calls", "count", func(p *Policy) { p.Options = &algorithm.CountOptions{Calls: 6} }, 6, 2},
		{"count: one call", "count", func(p *Policy) { p.Options = &algorithm.CountOptions{Calls: 1} }, 1, 1},
		{"count: as many calls", "count", func(p *Policy) { p.Options, p.FailureRatio = &algorithm.CountOptions{Calls: 1000}, 0.9 }, 8, 4},
		{"count: another ratio", "count", func(p *Policy) { p.SlowCallRatio = 0.5 }, 8, 4},
		{"budget: a shorter window", "budget", func(p *Policy) {
			p.Options = &algorithm.BudgetOptions{Objective: 0.9, BurnRate: 5, Short: 10 * time.Second, Long: time.Minute}
		}, 5, 1},
		{"budget: a longer window", "budget", func(p *Policy) {
			p.Options = &algorithm.BudgetOptions{Objective: 0.9, BurnRate: 5, Short: time.Hour, Long: time.Hour}
		}, 8, 4},
		{"throttle: a shorter window", "throttle", func(p *Policy) { p.Window = 10 * time.Second }, 5, 1},
		{"throttle: other options", "throttle", func(p *Policy) {
			p.Options = &algorithm.ThrottleOptions{SuccessRatio: 0.5, Aggression: 2, MaxRejection: 1}
		}, 8, 4},
		{"fail_max and mode", "count", func(p *Policy) { p.FailMax, p.Mode = 100, Shadow }, 8, 4},
		{"the recovery", "count", func(p *Policy) { p.RecoveryRamp, p.RecoveryTimeout, p.RetryAfter = time.Hour, time.Hour, 1 }, 8, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := algorithmPolicies[test.algorithm]()
				w := newTestBreaker(t, before)
				w.report("fff", 0)
				time.Sleep(20 * time.Second)
				w.report("ssssf", 0)
				after := algorithmPolicies[test.algorithm]()
				test.change(&after)
				w.SetPolicy(after)
				w.wantCounts(test.requests, test.failures)
				w.SetPolicy(before) // brings no call back
				w.wantCounts(test.requests, test.failures)
				w.report("f", 0)
				w.wantCounts(test.requests+1, test.failures+1)
				w.want(events.Closed)
			})
		})
	}
}

// A throttled share is kept with the counts, also with the rejected calls.
func TestReloadKeepsThrottledCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 1})
		w := newTestBreaker(t, p)
		w.fillThrottle()
		rejected := float64(w.refuse(100, ErrThrottled))
		p.Window, p.FailMax = time.Hour, 1000
		w.SetPolicy(p)
		// 100 calls were made, of which 50 succeeded, and the others were cancelled.
		if got, want := w.Status().RejectionRatio, (100+rejected-50)/(101+rejected); math.Abs(got-want) > 1e-9 {
			t.Errorf("rejection ratio %v, want %v", got, want)
		}
		p.Options = &algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.1}
		w.SetPolicy(p)
		if got := w.Status().RejectionRatio; got != 0.1 {
			t.Errorf("rejection ratio %v with a lower limit", got)
		}
	})
}

func TestChangeOfAlgorithmForgetsTheCounts(t *testing.T) {
	for from, before := range algorithmPolicies {
		for to, after := range algorithmPolicies {
			if from == to {
				continue
			}
			t.Run(from+" to "+to, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newTestBreaker(t, before())
					w.report("fffs", time.Second)
					w.SetPolicy(after())
					w.wantCounts(0, 0)
					w.report("fs", time.Second)
					w.wantCounts(2, 1)
					w.SetPolicy(before())
					w.wantCounts(0, 0) // not those of the first time
					w.report("f", time.Second)
					w.wantCounts(1, 1)
					if got := w.Status().ConsecutiveFailures; got != 1 {
						t.Errorf("%d consecutive failures, want those of all algorithms", got)
					}
				})
			})
		}
	}
}

// However the state is when the algorithm is changed, the new one decides in the next closed state.
func TestChangeOfAlgorithmInEachState(t *testing.T) {
	before := algorithmPolicies["throttle"]()
	before.FailMax = 5
	after := countPolicy(4)
	after.MinRequests = 4
	tests := map[string]func(w *testBreaker){
		"open": func(w *testBreaker) {
			w.call(5, false, 0)
			until := w.RetryAt()
			w.SetPolicy(after)
			if !w.RetryAt().Equal(until) {
				w.t.Errorf("open until %v, was %v", w.RetryAt(), until)
			}
			w.recover()
		},
		"half-open": func(w *testBreaker) {
			w.call(5, false, 0)
			w.waitHalfOpen()
			probe := w.allow()
			w.SetPolicy(after)
			w.want(events.HalfOpen)
			probe.Success(0) // keeps its permit
		},
		"forced open": func(w *testBreaker) {
			w.Force(events.Open, time.Minute, "")
			w.SetPolicy(after)
			w.recover()
		},
		"forced closed": func(w *testBreaker) {
			w.Force(events.Closed, 0, "")
			w.SetPolicy(after)
			w.call(100, false, 0)
			w.Release("")
		},
		"shadow": func(w *testBreaker) {
			p := after
			p.Mode = Shadow
			w.SetPolicy(p)
			w.wantCounts(0, 0)
			w.SetPolicy(after)
		},
		"off": func(w *testBreaker) {
			p := after
			p.Mode = Off
			w.SetPolicy(p)
			w.call(100, false, 0)
			w.SetPolicy(after)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestBreaker(t, before)
				w.call(3, false, 0)
				w.call(1, true, 0)
				change(w)
				w.want(events.Closed)
				w.call(2, true, 0)
				w.call(1, false, 0)
				w.want(events.Closed)
				w.call(1, false, 0)
				w.want(events.Open)
				want := events.Counts{Requests: 4, Successes: 2, Failures: 2, ConsecutiveFailures: 2}
				if c := w.change.Load(); c.Cause != events.CauseFailureRatio || c.Counts != want {
					t.Errorf("opened by %s, %+v", c.Cause, c.Counts)
				}
			})
		})
	}
}
