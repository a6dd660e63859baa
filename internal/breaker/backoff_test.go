package breaker

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

func backoffPolicy() Policy {
	return Policy{
		FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
		RecoveryBackoff: Backoff{Multiplier: 2, Max: 5 * time.Minute},
	}
}

func (w *testBreaker) wantOpening(want time.Duration, consecutive int) {
	w.t.Helper()
	if got := w.fail(); got != want {
		w.t.Errorf("open for %v, want %v", got, want)
	}
	if got := w.Status().ConsecutiveOpenings; got != consecutive {
		w.t.Errorf("%d consecutive openings, want %d", got, consecutive)
	}
}

func TestOpeningsGrowWhileProbesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, backoffPolicy())
		for i, want := range []time.Duration{1, 2, 4, 5, 5} {
			w.wantOpening(want*time.Minute, i+1)
			w.waitHalfOpen()
		}
	})
}

func TestShortRecoveryKeepsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, backoffPolicy())
		w.wantOpening(time.Minute, 1)
		w.recover()
		time.Sleep(time.Minute - time.Nanosecond)
		w.wantOpening(2*time.Minute, 2)
		w.recover()
		time.Sleep(time.Minute - time.Nanosecond)
		if got := w.Status().ConsecutiveOpenings; got != 2 {
			t.Errorf("%d consecutive openings before RecoveryTimeout has passed, want 2", got)
		}
		time.Sleep(time.Nanosecond)
		if got := w.Status().ConsecutiveOpenings; got != 0 {
			t.Errorf("%d consecutive openings after RecoveryTimeout, want 0", got)
		}
		w.wantOpening(time.Minute, 1)
	})
}

func TestForcedOpeningResetsConsecutiveOpenings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, backoffPolicy())
		w.fail()
		w.waitHalfOpen()
		w.fail()
		w.Force(events.Open, time.Hour, "")
		if got := w.Status().ConsecutiveOpenings; got != 0 {
			t.Errorf("%d consecutive openings in a forced state", got)
		}
		w.waitHalfOpen()
		w.wantOpening(time.Minute, 1)
		w.Force(events.HalfOpen, 0, "") // keeps the number of consecutive openings
		w.wantOpening(2*time.Minute, 2)
	})
}

func TestSetStateSetsConsecutiveOpenings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, backoffPolicy())
		w.SetState(StateOverride{State: events.Open, ConsecutiveOpenings: 2})
		if got := time.Until(w.RetryAt()); got != 2*time.Minute {
			t.Errorf("the second opening lasts %v, want 2m", got)
		}
		w.SetState(StateOverride{State: events.Open, Duration: 7 * time.Second, ConsecutiveOpenings: 2})
		if got := time.Until(w.RetryAt()); got != 7*time.Second {
			t.Errorf("the opening lasts %v, want 7s", got)
		}
		unrelated := backoffPolicy()
		unrelated.FailMax = 2
		w.SetPolicy(unrelated)
		if got := time.Until(w.RetryAt()); got != 7*time.Second {
			t.Errorf("after an unrelated change of the policy the opening lasts %v, want 7s", got)
		}
		w.SetPolicy(backoffPolicy())
		w.waitHalfOpen()
		w.wantOpening(4*time.Minute, 3)
		w.SetState(StateOverride{State: events.Closed, ConsecutiveOpenings: 1})
		w.wantOpening(2*time.Minute, 2)
		jittered := backoffPolicy()
		jittered.RecoveryBackoff.Jitter = 0.5
		w.SetPolicy(jittered)
		w.SetState(StateOverride{State: events.Open, ConsecutiveOpenings: 2})
		until := w.RetryAt()
		w.SetState(StateOverride{State: events.Open, ConsecutiveOpenings: 2})
		if w.RetryAt().Equal(until) {
			t.Error("two openings had the same jitter")
		}
	})
}

// The jitter of an opening is drawn once: going back to a policy restores the end of the opening.
func TestReloadRecomputesTheOpeningFromItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := backoffPolicy()
		p.RecoveryBackoff.Jitter = 0.5
		w := newTestBreaker(t, p)
		w.wantOpening(time.Minute, 1)
		w.waitHalfOpen()
		w.fail()
		since, until := w.Status().Since, w.RetryAt()
		time.Sleep(30 * time.Second)

		plain := p
		plain.RecoveryBackoff.Jitter = 0
		plain.RecoveryBackoff.Multiplier = 3
		w.SetPolicy(plain)
		if got := w.RetryAt().Sub(since); got != 3*time.Minute {
			t.Errorf("open for %v with a multiplier of 3, want 3m", got)
		}
		unrelated := plain
		unrelated.FailMax, unrelated.Mode = 7, Off
		w.SetPolicy(unrelated)
		if got := w.RetryAt().Sub(since); got != 3*time.Minute {
			t.Errorf("open for %v after an unrelated change, want 3m", got)
		}
		w.SetPolicy(p)
		if got := w.RetryAt(); !got.Equal(until) {
			t.Errorf("open until %v under the initial policy, want %v as before", got, until)
		}
		plain.RecoveryBackoff.Max = 20 * time.Second // raised to RecoveryTimeout
		plain.RecoveryTimeout = 10 * time.Second
		w.SetPolicy(plain)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		w.want(events.HalfOpen) // the new duration has passed already
	})
}

func TestOpeningStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{
			RecoveryTimeout: time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "recovery")),
			RecoveryBackoff: Backoff{
				Multiplier: rapid.Float64Min(0).Draw(t, "multiplier"),
				Max:        time.Duration(rapid.Int64Min(0).Draw(t, "max")),
				Jitter:     rapid.Float64Range(0, 10).Draw(t, "jitter"),
			},
		}
		n := rapid.IntRange(0, math.MaxInt32).Draw(t, "n")
		d := p.openDuration(n, rapid.Float64Range(0, 1).Draw(t, "random"))
		if d < p.RecoveryTimeout || d > max(p.RecoveryTimeout, p.RecoveryBackoff.Max) {
			t.Fatalf("%v", d)
		}
		if n <= 1 && d != p.RecoveryTimeout {
			t.Fatalf("the first opening is %v", d)
		}
	})
}

// Many breakers that open at the same time become half-open at different times.
func TestJitterSpreadsOpenings(t *testing.T) {
	p := Policy{FailMax: 1, RecoveryTimeout: 10 * time.Second, HalfOpenRequests: 1}
	tests := []struct {
		name            string
		backoff         Backoff
		consecutive     int
		shortest, below time.Duration
	}{
		{"no jitter in the first opening", Backoff{2, time.Minute, 0.5}, 1, 10 * time.Second, 10*time.Second + 1},
		{"second opening", Backoff{2, time.Minute, 0.5}, 2, 20 * time.Second, 30 * time.Second},
		{"without growth", Backoff{0, time.Minute, 0.5}, 9, 10 * time.Second, 15 * time.Second},
		{"limited by the maximum", Backoff{2, 25 * time.Second, 0.5}, 2, 20 * time.Second, 25*time.Second + 1},
		{"at the maximum", Backoff{2, time.Minute, 0.5}, 9, 40 * time.Second, time.Minute + 1},
		{"not below RecoveryTimeout", Backoff{2, 12 * time.Second, 0.5}, 9, 10 * time.Second, 12*time.Second + 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := p
				p.RecoveryBackoff = test.backoff
				w := newTestBreaker(t, p)
				low, high, seen := time.Duration(math.MaxInt64), time.Duration(0), map[time.Duration]bool{}
				for range 1000 {
					w.SetState(StateOverride{State: events.HalfOpen, ConsecutiveOpenings: test.consecutive - 1})
					if test.consecutive == 1 {
						w.SetState(StateOverride{State: events.Closed})
						time.Sleep(p.RecoveryTimeout)
					}
					d := w.fail()
					low, high, seen[d] = min(low, d), max(high, d), true
				}
				if low < test.shortest || high >= test.below {
					t.Errorf("openings of %v to %v, want at least %v and below %v", low, high, test.shortest, test.below)
				}
				if width := test.below - test.shortest; width > 1 && (high-low < width*9/10 || len(seen) < 900) {
					t.Errorf("%d different openings of %v to %v, want a spread of about %v", len(seen), low, high, width)
				}
			})
		})
	}
}
