package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// allFailFrom returns a failure ratio that is 0 before a time, and then 1.
func allFailFrom(begin time.Duration) func(time.Duration) float64 {
	return func(after time.Duration) float64 {
		if after < begin {
			return 0
		}
		return 1
	}
}

func TestOpensAfterTimeOfProjection(t *testing.T) {
	t.Parallel()
	ratio := Policy{Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 20, Window: 10 * time.Second}}
	for _, test := range []struct {
		name   string
		policy Policy
		Projection
		want  time.Duration
		opens bool
	}{
		{"fail_max", Policy{FailMax: 3}, Projection{time.Second, 0, allFailFrom(0)}, 2 * time.Second, true},
		{"fail_max, failures begin later", Policy{FailMax: 3}, Projection{time.Second, 0, allFailFrom(10 * time.Second)}, 12 * time.Second, true},
		{"fail_max, at the end of the time", Policy{FailMax: 3}, Projection{time.Second, 3 * time.Second, allFailFrom(0)}, 2 * time.Second, true},
		{"fail_max, after the time", Policy{FailMax: 3}, Projection{time.Second, 2 * time.Second, allFailFrom(0)}, 0, false},
		{"fail_max, after 1000 calls", Policy{FailMax: 3}, Projection{time.Second, 0, allFailFrom(998 * time.Second)}, 0, false},
		{"ratio: 5 s of failures in a window of 10 s", ratio, Projection{100 * time.Millisecond, 0, allFailFrom(30 * time.Second)}, 35 * time.Second, true},
		{"ratio, too few calls in the window", ratio, Projection{time.Second, 0, allFailFrom(0)}, 0, false},
		{"no limits", Policy{}, Projection{time.Second, 0, allFailFrom(0)}, 0, false},
		{"shadow", Policy{FailMax: 3, Mode: Shadow}, Projection{time.Second, 0, allFailFrom(0)}, 2 * time.Second, true},
		{"off", Policy{FailMax: 3, Mode: Off}, Projection{time.Second, 0, allFailFrom(0)}, 0, false},
	} {
		b := newTestBreaker(t, test.policy)
		got, opens := b.OpensAfter(test.Projection)
		if opens != test.opens || (got-test.want).Abs() > time.Second { // windows have slots
			t.Errorf("%s: %v, %v", test.name, got, opens)
		}
		if s := b.Status(); s.State != events.Closed || s.ConsecutiveFailures != 0 {
			t.Errorf("%s: the breaker has counted the calls: %+v", test.name, s)
		}
	}
}

func TestForcedBreakersDoNotOpenInProjection(t *testing.T) {
	t.Parallel()
	b := newTestBreaker(t, Policy{FailMax: 3})
	b.Force(events.Closed, 0, "")
	if got, opens := b.OpensAfter(Projection{time.Second, 0, allFailFrom(0)}); opens {
		t.Errorf("opens after %v", got)
	}
}

func TestProjectionKnowsWhatWasLearnt(t *testing.T) {
	t.Parallel()
	for mode, want := range map[adaptive.Mode]time.Duration{adaptive.Off: 19 * time.Second, adaptive.Shadow: 19 * time.Second, adaptive.Enforce: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := newTestBreaker(t, adaptivePolicy(mode))
			if got, _ := b.OpensAfter(Projection{time.Second, 0, allFailFrom(0)}); got != 19*time.Second {
				t.Errorf("%v, before the warmup: %v", mode, got)
			}
			b.warmUp()
			before := b.Baseline()
			if got, _ := b.OpensAfter(Projection{time.Second, 0, allFailFrom(0)}); got != want {
				t.Errorf("%v: %v", mode, got)
			}
			if after := b.Baseline(); after != before {
				t.Errorf("%v: %+v, before %+v", mode, after, before)
			}
		})
	}
}
