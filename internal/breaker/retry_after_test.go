package breaker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func retryAfterPolicy(after int) Policy {
	return Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, RetryAfter: after, RetryAfterMax: 5 * time.Minute}
}

// answer makes a call whose answer asks for no call for d.
func (w *testBreaker) answer(d time.Duration) {
	w.t.Helper()
	w.allow().RetryAfter(time.Now().Add(d))
}

// allow returns an admitted call.
func (w *testBreaker) allow() Call {
	w.t.Helper()
	call, err := w.Allow()
	if err != nil {
		w.t.Fatalf("rejected in state %v: %v", call.State, err)
	}
	return call
}

// wantOpenFor fails the test if the breaker is not open for d from now, because of Retry-After.
func (w *testBreaker) wantOpenFor(d time.Duration) {
	w.t.Helper()
	s := w.Status()
	if s.State != events.Open || s.Cause != events.CauseRetryAfter || time.Until(s.RetryAt) != d {
		w.t.Fatalf("%v by %q for %v, want open for %v", s.State, s.Cause, time.Until(s.RetryAt), d)
	}
}

func TestRetryAfterInARowOpens(t *testing.T) {
	const s = time.Second
	answers := func(ds ...time.Duration) func(*testBreaker) {
		return func(w *testBreaker) {
			for _, d := range ds {
				w.answer(d)
			}
		}
	}
	tests := []struct {
		name  string
		after int
		calls func(*testBreaker)
		want  time.Duration // how long the breaker is open; 0: it is closed
	}{
		{"the first answer", 1, answers(7 * s), 7 * s},
		{"too few", 3, answers(7*s, 8*s), 0},
		{"enough", 3, answers(7*s, 8*s, 9*s), 9 * s},
		{"the latest time counts", 3, answers(7*s, 30*s, 9*s), 30 * s},
		{"at most the maximum", 1, answers(time.Hour), 5 * time.Minute},
		{"the latest of those that are limited", 2, answers(time.Hour, s), 5 * time.Minute},
		{"no notice is taken", 0, answers(s, s, s, s, s, s, s, s), 0},
		{"a time in the past", 1, answers(-s), 0},
		{"now", 1, answers(0), 0},
		{"times in the past count for the row", 3, answers(0, -s, 4*s), 4 * s},
		{"the latest time has passed", 2, func(w *testBreaker) {
			w.answer(5 * s)
			time.Sleep(6 * s)
			w.answer(-s)
		}, 0},
		{"an earlier answer names the latest time", 2, func(w *testBreaker) {
			w.answer(60 * s)
			time.Sleep(40 * s)
			w.answer(s)
		}, 20 * s},
		{"the maximum applies from each answer on", 2, func(w *testBreaker) {
			w.answer(time.Hour)
			time.Sleep(time.Minute)
			w.answer(s)
		}, 4 * time.Minute},
		{"a success in between", 2, func(w *testBreaker) { w.answer(s); w.call(1, true, 0); w.answer(s) }, 0},
		{"a failure in between", 2, func(w *testBreaker) { w.answer(s); w.call(1, false, 0); w.answer(s) }, 0},
		{"the row after a success", 2, func(w *testBreaker) { w.answer(time.Minute); w.call(1, true, 0); w.answer(s); w.answer(s) }, s},
		{"a cancelled call in between", 2, func(w *testBreaker) { w.answer(s); w.allow().Cancel(); w.answer(s) }, s},
		{"a slow call in between that its client cancelled", 2, func(w *testBreaker) { w.answer(s); w.allow().Abandon(time.Hour); w.answer(s) }, s},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := retryAfterPolicy(test.after)
				p.SlowCallRatio, p.SlowCallDuration, p.MinRequests, p.Window = 1, time.Minute, 100, time.Minute
				w := newTestBreaker(t, p)
				test.calls(w)
				if test.want == 0 {
					w.want(events.Closed)
					return
				}
				w.wantOpenFor(test.want)
				c := w.change.Load()
				if c.From != events.Closed || c.Cause != events.CauseRetryAfter || !c.Until.Equal(w.RetryAt()) || c.Failure != nil {
					t.Errorf("published %+v", c)
				}
				if status := w.Status(); status.LastFailure != nil && test.after == 1 || status.ConsecutiveFailures != 0 {
					t.Errorf("%+v", status)
				}
			})
		})
	}
}

// The answers are neither failures nor successes.
func TestRetryAfterIsNoResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy(100)
		p.FailMax, p.FailureRatio, p.MinRequests, p.Window = 3, 0.9, 3, time.Minute
		w := newTestBreaker(t, p)
		w.call(2, false, 0)
		w.answer(time.Minute)
		s := w.Status()
		if s.ConsecutiveFailures != 2 || s.Window.Requests != 2 {
			t.Errorf("%d consecutive failures, counts %+v; want the 2 failures", s.ConsecutiveFailures, s.Window)
		}
		w.call(1, false, 0)
		w.want(events.Open)
	})
}

func TestRetryAfterProlongsAndDoesNotShorten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, retryAfterPolicy(1))
		calls := make([]Call, 6)
		for i := range calls {
			calls[i] = w.allow()
		}
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }
		calls[0].RetryAfter(in(time.Minute))
		since := w.Status().Since
		time.Sleep(10 * time.Second)
		calls[1].RetryAfter(in(20 * time.Second))
		w.wantOpenFor(50 * time.Second)
		calls[2].RetryAfter(in(2 * time.Minute))
		w.wantOpenFor(2 * time.Minute)
		calls[3].RetryAfter(in(-time.Hour))
		w.wantOpenFor(2 * time.Minute)
		calls[4].RetryAfter(in(time.Hour))
		w.wantOpenFor(5 * time.Minute)
		time.Sleep(time.Minute)
		calls[5].RetryAfter(in(time.Second)) // an answer that names a short time does not make an earlier one last longer
		w.wantOpenFor(4 * time.Minute)
		if s := w.Status(); !s.Since.Equal(since) || s.ConsecutiveOpenings != 1 || s.Transitions[events.Open] != 1 {
			t.Errorf("%+v, want one opening since %v", s, since)
		}
		time.Sleep(4*time.Minute - time.Nanosecond)
		synctest.Wait()
		w.want(events.Open)
		w.waitHalfOpen()
		if c := w.change.Load(); c.Cause != events.CauseRecoveryTimeout {
			t.Errorf("half-open by %s", c.Cause)
		}
	})
}

// An opening by failures lasts as long as the policy says, whatever the calls in flight are answered.
func TestRetryAfterDoesNotProlongOtherOpenings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, retryAfterPolicy(1))
		late := w.allow()
		w.call(5, false, 0)
		late.RetryAfter(time.Now().Add(3 * time.Minute))
		if s := w.Status(); s.Cause != events.CauseConsecutiveFailures || time.Until(s.RetryAt) != time.Minute {
			t.Errorf("open by %s for %v", s.Cause, time.Until(s.RetryAt))
		}
	})
}

// Another instance of the fleet has been asked to wait: this one waits as long, whatever its policy becomes, or longer.
func TestRetryAfterProlongsTheOpeningOfAnotherInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy(1)
		w := newTestBreaker(t, p)
		late := w.allow()
		w.SetState(StateOverride{State: events.Open, Duration: 2 * time.Minute, NamedEnd: true, Cause: events.CauseFleet})
		p.RecoveryTimeout = time.Second
		w.SetPolicy(p)
		if s := w.Status(); s.Cause != events.CauseFleet || time.Until(s.RetryAt) != 2*time.Minute {
			t.Errorf("open by %s for %v", s.Cause, time.Until(s.RetryAt))
		}
		late.RetryAfter(time.Now().Add(3 * time.Minute))
		w.wantOpenFor(3 * time.Minute)
		w.SetState(StateOverride{State: events.Open, Cause: events.CauseFleet}) // another opening, by failures
		p.RecoveryTimeout = 2 * time.Second
		w.SetPolicy(p)
		if got := time.Until(w.RetryAt()); got != 2*time.Second {
			t.Errorf("open for %v, want the new recovery timeout", got)
		}
	})
}

func TestProbeThatIsAnsweredWithRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name   string
		active bool
		after  int
	}{{"a client's call", false, 1}, {"an active probe", true, 1}, {"the second of two", false, 2}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := retryAfterPolicy(test.after)
				p.ActiveProbing = test.active
				p.RecoveryBackoff = Backoff{Multiplier: 2, Max: time.Hour}
				w := newTestBreaker(t, p)
				w.call(5, false, 0)
				w.waitHalfOpen()
				for i := range test.after {
					allow := w.Allow
					if test.active {
						allow = w.AllowActiveProbe
					}
					probe, err := allow()
					if err != nil {
						t.Fatalf("probe %d: %v", i, err) // the permit of the one before has not been returned
					}
					probe = probe.WithRevocablePermit(func() time.Duration { return 0 })
					probe.RetryAfter(time.Now().Add(2 * time.Minute))
				}
				w.wantOpenFor(2 * time.Minute)
				if c := w.change.Load(); c.From != events.HalfOpen || c.Counts != (events.Counts{}) {
					t.Errorf("published %+v", c)
				}
				w.waitHalfOpen()
				if test.active {
					return
				}
				// A recovery that was asked to wait has not failed: the backoff is that of the second opening.
				if got := w.fail(); got != 2*time.Minute {
					t.Errorf("open for %v after a failed probe, want 2m", got)
				}
			})
		})
	}
}

func TestRetryAfterInForcedStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, retryAfterPolicy(1))
		late := w.allow()
		w.Force(events.Closed, 0, "")
		w.answer(time.Minute)
		w.want(events.Closed)
		w.Force(events.Open, 10*time.Second, "")
		late.RetryAfter(time.Now().Add(time.Minute))
		if s := w.Status(); s.Cause != events.CauseForced || time.Until(s.RetryAt) != 10*time.Second {
			t.Errorf("forced open: %s for %v", s.Cause, time.Until(s.RetryAt))
		}
		w.Force(events.HalfOpen, 0, "")
		w.answer(time.Minute)
		w.wantOpenFor(time.Minute)
		w.Force(events.Open, 0, "")
		if s := w.Status(); s.Cause != events.CauseForced || !s.RetryAt.IsZero() {
			t.Errorf("forced open over it: %s until %v", s.Cause, s.RetryAt)
		}
		w.Release("")
		w.want(events.HalfOpen)
	})
}

func TestRetryAfterByMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy(1)
		p.Mode = Off
		w := newTestBreaker(t, p)
		for range 10 {
			w.answer(time.Minute)
		}
		w.want(events.Closed)
		p.Mode = Shadow
		w.SetPolicy(p)
		before := w.allow()
		w.answer(time.Minute)
		w.wantOpenFor(time.Minute)
		for range 3 {
			w.answer(2 * time.Minute) // would have been rejected, so it does not prolong
		}
		w.wantOpenFor(time.Minute)
		if n := w.Status().ShadowRejections; n != (events.ShadowRejections{Open: 3}) {
			t.Errorf("counted %+v", n)
		}
		p.Mode = Off
		w.SetPolicy(p)
		before.RetryAfter(time.Now().Add(2 * time.Minute))
		w.wantOpenFor(time.Minute)
		w.waitHalfOpen() // only time ends it
	})
}

// A changed end of an opening is published, with the new end.
func TestProlongedOpeningIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var published []events.UntilChanged
		b := New("svc", retryAfterPolicy(1), func(e events.Event) {
			if c, ok := e.(events.UntilChanged); ok {
				published = append(published, c)
			}
		})
		defer b.Close()
		var calls [4]Call
		for i := range calls {
			calls[i], _ = b.Allow()
		}
		now := time.Now()
		calls[0].RetryAfter(now.Add(time.Minute))
		calls[1].RetryAfter(now.Add(time.Minute))
		calls[2].RetryAfter(now.Add(time.Second))
		if len(published) != 0 {
			t.Errorf("published %+v before the end has changed", published)
		}
		time.Sleep(time.Second)
		calls[3].RetryAfter(now.Add(2 * time.Minute))
		want := []events.UntilChanged{{Time: now.Add(time.Second), Service: "svc", Until: now.Add(2 * time.Minute), Cause: events.CauseRetryAfter}}
		if !slices.Equal(published, want) {
			t.Errorf("published %+v, want %+v", published, want)
		}
		b.Force(events.Open, time.Hour, "")
		b.Force(events.Open, 2*time.Hour, "") // has an event of its own
		if len(published) != 1 {
			t.Errorf("published %+v", published)
		}
	})
}

// A call of any phase can report a time: that is not about the past.
func TestRetryAfterOfAnEarlierPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, retryAfterPolicy(1))
		late := w.allow()
		w.answer(time.Second)
		w.recover()
		late.RetryAfter(time.Now().Add(time.Minute))
		w.wantOpenFor(time.Minute)
		Call{}.RetryAfter(time.Now().Add(time.Hour)) // does nothing
		w.wantOpenFor(time.Minute)
	})
}

func TestReloadDuringAnOpeningByRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy(1)
		p.RecoveryBackoff.Jitter = 0.5
		w := newTestBreaker(t, p)
		late, later := w.allow(), w.allow()
		w.answer(3 * time.Minute)
		for _, change := range []func(){
			func() { p.RecoveryTimeout = time.Second },
			func() { p.RecoveryTimeout, p.RecoveryBackoff = time.Hour, Backoff{2, 10 * time.Hour, 0.1} },
			func() { p.RetryAfterMax = time.Second },
			func() { p.Algorithm, p.Options, p.FailureRatio = "count", &algorithm.CountOptions{Calls: 10}, 1 },
			func() { p.RetryAfterMax, p.Mode = time.Minute, Shadow },
			func() { p.Mode = Enforce },
		} {
			change()
			w.SetPolicy(p)
			w.wantOpenFor(3 * time.Minute)
		}
		late.RetryAfter(time.Now().Add(4 * time.Minute)) // the new maximum applies
		w.wantOpenFor(3 * time.Minute)
		time.Sleep(2*time.Minute + 30*time.Second)
		later.RetryAfter(time.Now().Add(4 * time.Minute))
		w.wantOpenFor(time.Minute)
		w.waitHalfOpen()
	})
}

// A policy that begins to take notice counts the answers from then on.
func TestReloadTurnsRetryAfterOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy(0)
		w := newTestBreaker(t, p)
		for range 5 {
			w.answer(time.Minute)
		}
		w.SetPolicy(retryAfterPolicy(2))
		w.answer(time.Second)
		w.want(events.Closed)
		w.SetPolicy(retryAfterPolicy(3))
		w.answer(time.Second)
		w.want(events.Closed)
		w.SetPolicy(retryAfterPolicy(2))
		w.answer(time.Second) // the third
		w.wantOpenFor(time.Second)
	})
}
