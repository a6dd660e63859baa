package breaker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

// watched is a breaker and the last change it published.
type watched struct {
	*Breaker
	t      *testing.T
	change atomic.Pointer[events.StateChanged]
}

// watch returns a breaker that ends with its test.
func watch(t *testing.T, p Policy) *watched {
	w := &watched{t: t}
	w.Breaker = New("svc", p, func(e events.Event) {
		if c, ok := e.(events.StateChanged); ok {
			w.change.Store(&c)
		}
	})
	t.Cleanup(w.Close)
	return w
}

// call lets n calls through, which succeed or fail and take took.
func (w *watched) call(n int, ok bool, took time.Duration) {
	w.t.Helper()
	for range n {
		call, err := w.Allow()
		if err != nil {
			w.t.Fatalf("refused in state %v: %v", call.State, err)
		}
		if ok {
			call.Success(took)
		} else {
			call.Failure(&events.Failure{Type: events.ErrorReset, Detail: "went"}, took)
		}
	}
}

func (w *watched) want(state events.State) {
	w.t.Helper()
	if got := w.State(); got != state {
		w.t.Fatalf("state %v, want %v", got, state)
	}
}

// recover brings the breaker from an opening back to closed.
func (w *watched) recover() {
	w.t.Helper()
	time.Sleep(time.Until(w.RetryAt()) + 2*time.Nanosecond)
	synctest.Wait()
	w.call(1, true, 0)
	w.want(events.Closed)
}

func ratios() Policy {
	return Policy{
		FailureRatio: 0.5, SlowCallRatio: 0.6, SlowCallDuration: 5 * time.Second, MinRequests: 10,
		Window: 30 * time.Second, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

func TestFailureShareOpensTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, ratios())
		w.call(4, false, 0)
		w.call(5, true, 5*time.Second)
		w.want(events.Closed) // too few
		w.call(1, false, 0)
		w.want(events.Open)
		c := w.change.Load()
		want := events.Counts{Requests: 10, Successes: 5, Failures: 5, ConsecutiveFailures: 1, Slow: 5}
		if c.Cause != events.CauseFailureRatio || c.Counts != want {
			t.Errorf("%s %+v, want %+v", c.Cause, c.Counts, want)
		}
		if c.Failure == nil || c.Failure.Detail != "went" {
			t.Errorf("failure %+v, want the last one", c.Failure)
		}
	})
}

// A share can be reached by a success that completes the volume.
func TestSuccessThatCompletesTheVolumeOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, ratios())
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
				w := watch(t, ratios())
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
					t.Errorf("%d failures in a row, want %d", status.ConsecutiveFailures, want.ConsecutiveFailures)
				}
			})
		})
	}
}

// Where one report reaches several limits, the simplest is told.
func TestCausesHaveAnOrder(t *testing.T) {
	tests := map[events.Cause]func(*Policy){
		events.CauseConsecutiveFailures: func(p *Policy) { p.FailMax = 10 },
		events.CauseFailureRatio:        func(*Policy) {},
		events.CauseSlowCallRatio:       func(p *Policy) { p.FailureRatio = 0 },
	}
	for want, change := range tests {
		synctest.Test(t, func(t *testing.T) {
			p := ratios()
			change(&p)
			w := watch(t, p)
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

func TestOnlyCallsOfOneClosedStretchCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ratios()
		p.MinRequests, p.FailureRatio, p.SlowCallRatio = 2, 1, 0
		w := watch(t, p)
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
		w.Force(events.HalfOpen, 0, "") // the call under way is no probe of this one
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

func TestHeldClosedCountsNoShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, ratios())
		w.Force(events.Closed, 0, "maintenance")
		w.call(100, false, time.Minute)
		p := ratios()
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

func TestReloadKeepsWhatIsCounted(t *testing.T) {
	tests := []struct {
		name   string
		reload func(p *Policy)
		then   func(w *watched)
		want   events.State
	}{
		{"lower ratio opens at the next report", func(p *Policy) { p.FailureRatio = 0.2 }, func(w *watched) { w.call(2, true, 0) }, events.Open},
		{"a reload alone opens nothing", func(p *Policy) { p.FailureRatio = 0.2 }, func(*watched) {}, events.Closed},
		{"lower volume", func(p *Policy) { p.MinRequests, p.FailureRatio = 5, 0.3 }, func(w *watched) { w.call(1, true, 0) }, events.Open},
		{"a shorter window forgets its past", func(p *Policy) { p.Window, p.FailureRatio = 15*time.Second, 0.1 }, func(w *watched) { w.call(9, true, 0) }, events.Closed},
		{"a longer window keeps all", func(p *Policy) { p.Window, p.FailureRatio = 2*time.Minute, 0.2 }, func(w *watched) {
			time.Sleep(90 * time.Second)
			w.call(2, true, 0)
		}, events.Open},
		{"ratios off forget", func(p *Policy) { p.FailureRatio, p.SlowCallRatio = 0, 0 }, func(w *watched) {
			w.SetPolicy(ratios())
			w.call(9, false, 0)
		}, events.Closed},
		{"one ratio off keeps the other's counts", func(p *Policy) { p.SlowCallRatio, p.FailureRatio = 0, 0.4 }, func(w *watched) { w.call(2, false, 0) }, events.Open},
		{"another mode keeps the counts", func(p *Policy) { p.Mode = Shadow }, func(w *watched) { w.call(4, false, 0) }, events.Open},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, ratios())
				w.call(3, false, 0)
				time.Sleep(20 * time.Second)
				w.call(5, true, 0)
				p := ratios()
				test.reload(&p)
				w.SetPolicy(p)
				test.then(w)
				w.want(test.want)
			})
		})
	}
}

// A window is made where a ratio is turned on, and gone with the last.
func TestWindowLivesWithItsRatios(t *testing.T) {
	p := ratios()
	p.FailureRatio, p.SlowCallRatio = 0, 0
	b := New("svc", p, func(events.Event) {})
	defer b.Close()
	slots := func() bool { return b.current.Load().engine.window.slots != nil }
	if slots() {
		t.Error("a window without a ratio")
	}
	b.SetPolicy(ratios())
	if !slots() {
		t.Error("no window with ratios")
	}
	b.SetPolicy(p)
	if slots() {
		t.Error("a window outlived its ratios")
	}
}
