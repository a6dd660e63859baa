package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// adaptivePolicy is a policy that otherwise opens after 20 consecutive failures.
func adaptivePolicy(mode adaptive.Mode) Policy {
	return Policy{
		FailMax: 20, RecoveryTimeout: 30 * time.Second, HalfOpenRequests: 1,
		Adaptive: adaptive.Options{Mode: mode, FalseAlarm: 1e-8, MinRatio: 0.2, Floor: 0.01, Cap: 0.1, WarmupCalls: 200, WarmupTime: 30 * time.Minute},
	}
}

// warmUp makes good calls until the breaker has learnt that the upstream is healthy.
func (w *testBreaker) warmUp() {
	for range 400 {
		w.call(1, true, time.Millisecond)
		time.Sleep(10 * time.Second)
	}
}

func TestAdaptiveOpensByUnlikelyFailures(t *testing.T) {
	for mode, want := range map[adaptive.Mode]int{adaptive.Off: 20, adaptive.Shadow: 20, adaptive.Enforce: 6} {
		synctest.Test(t, func(t *testing.T) {
			b := newTestBreaker(t, adaptivePolicy(mode))
			b.warmUp()
			for failures := 1; ; failures++ {
				b.call(1, false, time.Millisecond)
				if b.State() == events.Closed {
					continue
				}
				cause := events.CauseAdaptive
				if mode != adaptive.Enforce {
					cause = events.CauseConsecutiveFailures
				}
				if c := b.change.Load(); failures != want || c.Cause != cause || c.Counts.ConsecutiveFailures != uint32(want) || c.Failure == nil {
					t.Errorf("mode %d: opened after %d failures: %+v", mode, failures, c)
				}
				break
			}
			b.recover()
			// The evidence is 0 again, and what was learnt is kept.
			b.call(5, false, time.Millisecond)
			b.want(events.Closed)
			if b.call(1, false, time.Millisecond); (b.State() == events.Open) != (mode == adaptive.Enforce) {
				t.Errorf("mode %d: %v after six failures", mode, b.State())
			}
		})
	}
}

// Half of the calls fail: there are never 20 consecutive failures.
func TestAdaptiveOpensWhenAShareFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
		b.warmUp()
		for calls := 1; calls <= 40; calls++ {
			b.call(1, calls%2 == 0, time.Millisecond)
			if b.State() == events.Open {
				if calls != 11 {
					t.Errorf("opened after %d calls", calls)
				}
				return
			}
		}
		t.Error("not opened after 40 calls")
	})
}

// Failures that an operator injects open the breaker like others, and change nothing of what is learnt.
func TestNothingIsLearntFromInjectedFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
		b.warmUp()
		before := b.learning.learner.FailureRatio()
		for i := range 6 {
			b.want(events.Closed)
			call, err := b.Allow()
			if err != nil {
				t.Fatal(i, err)
			}
			call.WithFault(true).Failure(&events.Failure{Type: events.ErrorReset}, time.Millisecond)
		}
		b.want(events.Open)
		if c := b.change.Load(); c.Cause != events.CauseAdaptive {
			t.Errorf("got %+v", c)
		}
		b.recover()
		time.Sleep(2 * time.Minute)
		b.call(100, true, time.Millisecond)
		if after := b.learning.learner.FailureRatio(); after != before {
			t.Errorf("learnt %v, before %v", after, before)
		}
	})
}

func TestAdaptiveFollowsTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(t, adaptivePolicy(adaptive.Off))
		b.SetPolicy(adaptivePolicy(adaptive.Shadow))
		b.warmUp()
		b.call(7, false, time.Millisecond)
		b.want(events.Closed)
		b.call(100, true, time.Millisecond)
		b.SetPolicy(adaptivePolicy(adaptive.Enforce))
		b.call(5, false, time.Millisecond)
		b.want(events.Closed)
		b.call(1, false, time.Millisecond)
		b.want(events.Open)
	})
}
