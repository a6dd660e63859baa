package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func ratioPolicy() Policy {
	return Policy{
		Limits: algorithm.Limits{
			FailureRatio: 0.5, SlowCallRatio: 0.6, SlowCallDuration: 5 * time.Second, MinRequests: 10, Window: 30 * time.Second,
		},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

func TestFailureRatioOpensTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, ratioPolicy())
		w.call(4, false, 0)
		w.call(5, true, 5*time.Second)
		w.want(events.Closed) // fewer than MinRequests
		w.call(1, false, 0)
		w.want(events.Open)
		c := w.change.Load()
		want := events.Counts{Requests: 10, Successes: 5, Failures: 5, ConsecutiveFailures: 1, Slow: 5}
		if c.Cause != events.CauseFailureRatio || c.Counts != want {
			t.Errorf("%s %+v, want %+v", c.Cause, c.Counts, want)
		}
		if c.Failure == nil || c.Failure.Detail != "connection reset" {
			t.Errorf("failure %+v, want the last one", c.Failure)
		}
	})
}

// A success that reaches MinRequests opens the breaker if the failure ratio is reached.
func TestSuccessThatReachesMinRequestsOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, ratioPolicy())
		w.call(6, false, 0)
		w.call(3, true, 0)
		w.want(events.Closed)
		w.call(1, true, 0)
		w.want(events.Open)
		want := events.Counts{Requests: 10, Successes: 4, Failures: 6}
		if c := w.change.Load(); c.Cause != events.CauseFailureRatio || c.Counts != want {
			t.Errorf("%s %+v, want %+v", c.Cause, c.Counts, want)
		}
	})
}

func TestSlowCallsOpenTheBreaker(t *testing.T) {
	for name, failed := range map[string]bool{"by a success": false, "by a failure": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestBreaker(t, ratioPolicy())
				w.call(1, false, 5*time.Second-1)
				w.call(5, true, 5*time.Second)
				w.call(3, true, 0)
				w.want(events.Closed)
				w.call(1, !failed, time.Hour)
				w.want(events.Open)
				c := w.change.Load()
				want := events.Counts{Requests: 10, Successes: 9, Failures: 1, Slow: 6}
				if failed {
					want.Successes, want.Failures, want.ConsecutiveFailures = 8, 2, 1
				}
				if c.Cause != events.CauseSlowCallRatio || c.Counts != want {
					t.Errorf("%s %+v, want %+v", c.Cause, c.Counts, want)
				}
				if f := c.Failure; f == nil || f.Type != events.ErrorSlow || f.Detail != "6 of 10 calls took 5s or longer" || !f.Time.Equal(c.Time) {
					t.Errorf("failure %+v", f)
				}
				status := w.Status()
				if last := status.LastFailure; (last.Type == events.ErrorSlow) == failed {
					t.Errorf("last failure %+v", last)
				}
				if status.ConsecutiveFailures != int(want.ConsecutiveFailures) {
					t.Errorf("%d consecutive failures, want %d", status.ConsecutiveFailures, want.ConsecutiveFailures)
				}
			})
		})
	}
}

// If one report reaches several limits, the cause is the first in the order consecutive failures,
// failure ratio, slow call ratio.
func TestOrderOfCauses(t *testing.T) {
	tests := map[events.Cause]func(*Policy){
		events.CauseConsecutiveFailures: func(p *Policy) { p.FailMax = 10 },
		events.CauseFailureRatio:        func(*Policy) {},
		events.CauseSlowCallRatio:       func(p *Policy) { p.FailureRatio = 0 },
	}
	for want, change := range tests {
		synctest.Test(t, func(t *testing.T) {
			p := ratioPolicy()
			change(&p)
			w := newTestBreaker(t, p)
			w.call(10, false, time.Minute)
			c := w.change.Load()
			if c.Cause != want {
				t.Errorf("%s, want %s", c.Cause, want)
			}
			if c.Counts.Slow != 10 || c.Counts.ConsecutiveFailures != 10 || c.Counts.Requests != 10 {
				t.Errorf("%s counts %+v", c.Cause, c.Counts)
			}
		})
	}
}

func TestOnlyCallsOfTheCurrentClosedPhaseCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ratioPolicy()
		p.MinRequests, p.FailureRatio, p.SlowCallRatio = 2, 1, 0
		w := newTestBreaker(t, p)
		late, _ := w.Allow()
		w.call(1, false, 0)
		cancelled, _ := w.Allow()
		cancelled.Cancel()
		w.want(events.Closed)
		w.call(1, false, 0)
		w.want(events.Open)
		w.recover()
		late.Failure(&events.Failure{}, 0)
		w.call(1, false, 0)
		w.want(events.Closed) // one failure in the new window
		probe, _ := w.Allow()
		w.Force(events.Open, time.Second, "")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		halfOpen, err := w.Allow()
		if err != nil {
			t.Fatal(err)
		}
		w.Force(events.HalfOpen, 0, "") // the call in flight is not a probe of this phase
		w.call(1, true, 0)
		w.want(events.Closed)
		probe.Failure(&events.Failure{}, 0)
		halfOpen.Failure(&events.Failure{}, 0)
		w.call(1, false, 0)
		w.want(events.Closed)
		w.call(1, false, 0)
		w.want(events.Open)
	})
}

func TestForcedClosedCountsNoRatios(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, ratioPolicy())
		w.Force(events.Closed, 0, "maintenance")
		w.call(100, false, time.Minute)
		p := ratioPolicy()
		p.MinRequests = 5
		w.SetPolicy(p)
		w.call(100, false, time.Minute)
		w.want(events.Closed)
		w.Release("")
		w.call(4, false, 0)
		w.want(events.Closed)
		w.call(1, false, 0)
		w.want(events.Open)
	})
}

func TestSetPolicyKeepsCounts(t *testing.T) {
	tests := []struct {
		name   string
		change func(p *Policy)
		then   func(w *testBreaker)
		want   events.State
	}{
		{"lower ratio opens at the next report", func(p *Policy) { p.FailureRatio = 0.2 }, func(w *testBreaker) { w.call(2, true, 0) }, events.Open},
		{"a change alone opens nothing", func(p *Policy) { p.FailureRatio = 0.2 }, func(*testBreaker) {}, events.Closed},
		{"fewer MinRequests", func(p *Policy) { p.MinRequests, p.FailureRatio = 5, 0.3 }, func(w *testBreaker) { w.call(1, true, 0) }, events.Open},
		{"a shorter window drops older calls", func(p *Policy) { p.Window, p.FailureRatio = 15*time.Second, 0.1 }, func(w *testBreaker) { w.call(9, true, 0) }, events.Closed},
		{"a longer window keeps all calls", func(p *Policy) { p.Window, p.FailureRatio = 2*time.Minute, 0.2 }, func(w *testBreaker) {
			time.Sleep(90 * time.Second)
			w.call(2, true, 0)
		}, events.Open},
		{"turning ratios off drops the counts", func(p *Policy) { p.FailureRatio, p.SlowCallRatio = 0, 0 }, func(w *testBreaker) {
			w.SetPolicy(ratioPolicy())
			w.call(9, false, 0)
		}, events.Closed},
		{"turning one ratio off keeps the counts", func(p *Policy) { p.SlowCallRatio, p.FailureRatio = 0, 0.4 }, func(w *testBreaker) { w.call(2, false, 0) }, events.Open},
		{"changing the mode keeps the counts", func(p *Policy) { p.Mode = Shadow }, func(w *testBreaker) { w.call(4, false, 0) }, events.Open},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestBreaker(t, ratioPolicy())
				w.call(3, false, 0)
				time.Sleep(20 * time.Second)
				w.call(5, true, 0)
				p := ratioPolicy()
				test.change(&p)
				w.SetPolicy(p)
				test.then(w)
				w.want(test.want)
			})
		})
	}
}

// A window is allocated when a ratio is turned on and released when the last one is turned off.
func TestWindowIsAllocatedOnlyWithRatios(t *testing.T) {
	p := ratioPolicy()
	p.FailureRatio, p.SlowCallRatio = 0, 0
	b := New("svc", p, func(events.Event) {})
	defer b.Close()
	slots := func() bool { return b.current.Load().engine.decider.algorithm != nil }
	if slots() {
		t.Error("a window without a ratio")
	}
	b.SetPolicy(ratioPolicy())
	if !slots() {
		t.Error("no window with ratios")
	}
	b.SetPolicy(p)
	if slots() {
		t.Error("a window after the ratios were turned off")
	}
}
