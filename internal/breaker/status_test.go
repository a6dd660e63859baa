package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func TestStatusShowsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{
			Limits:          algorithm.Limits{FailureRatio: 0.5, SlowCallRatio: 1, SlowCallDuration: time.Second, MinRequests: 10, Window: time.Minute},
			RecoveryTimeout: time.Second, HalfOpenRequests: 1,
		}
		w := newTestBreaker(t, p)
		w.call(2, true, 2*time.Second)
		w.call(3, false, 0)
		want := events.Counts{Requests: 5, Successes: 2, Failures: 3, Slow: 2, ConsecutiveFailures: 3}
		if got := w.Status().Window; got == nil || *got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		time.Sleep(time.Minute)
		if got := w.Status().Window; got.Requests != 0 {
			t.Errorf("%+v after a full window", got)
		}
		w.call(10, false, 0)
		w.want(events.Open)
		if got := w.Status().Window; got == nil || got.Requests != 0 {
			t.Errorf("%+v while open", got)
		}
		p.FailureRatio, p.SlowCallRatio = 0, 0
		w.SetPolicy(p)
		if got := w.Status().Window; got != nil {
			t.Errorf("%+v without a ratio", got)
		}
	})
}
