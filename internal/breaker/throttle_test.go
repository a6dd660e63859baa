package breaker

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func throttlePolicy(o algorithm.ThrottleOptions) Policy {
	return Policy{
		Limits: algorithm.Limits{
			Algorithm: "throttle", Options: &o,
			SlowCallRatio: 0.5, SlowCallDuration: time.Second, Window: 10 * time.Second,
		},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

// fillThrottle makes 100 calls of which half fail, however many are rejected.
func (w *testBreaker) fillThrottle() {
	for range 50 {
		for _, failed := range []bool{false, true} {
			call, _ := w.AllowActiveProbe() // is not throttled
			if failed {
				call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
			} else {
				call.Success(0)
			}
		}
	}
}

// refuse asks for n calls and returns how many are rejected with err. It reports nothing on the others.
func (w *testBreaker) refuse(n int, err error) (rejected int) {
	w.t.Helper()
	for range n {
		switch call, got := w.Allow(); got {
		case err:
			if call.State != events.Closed || !call.RetryAt.IsZero() {
				w.t.Fatalf("rejected with %+v", call)
			}
			rejected++
		case nil:
			call.Cancel()
		default:
			w.t.Fatal(got)
		}
	}
	return rejected
}

func TestThrottledBreakerStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Rejected calls count, so the share grows to max_rejection: with r rejections it is (100 + r - 50) / (101 + r).
		p := throttlePolicy(algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.6, MinRPS: 1})
		w := newTestBreaker(t, p)
		w.fillThrottle()
		if got := w.Status().RejectionRatio; math.Abs(got-50./101) > 1e-9 {
			t.Errorf("rejection ratio %v", got)
		}
		if n := w.refuse(10_000, ErrThrottled); n < 5700 || n > 6300 {
			t.Errorf("rejected %d of 10000 calls, want about 6000", n)
		}
		status := w.Status()
		if status.State != events.Closed || status.RejectionRatio != 0.6 || status.AdmittedRatio != 1 || w.change.Load() != nil {
			t.Errorf("%+v, changed %+v", status, w.change.Load())
		}
		if c := status.Window; c == nil || c.Requests != 100 || c.Failures != 50 {
			t.Errorf("counts %+v, want those of the calls that were made", c)
		}
		time.Sleep(p.Window)
		if n := w.refuse(1000, ErrThrottled); n > 0 || w.Status().RejectionRatio != 0 {
			t.Errorf("rejected %d calls after the window", n)
		}
	})
}

// fail_max counts beside the algorithm. The closed state that follows counts from zero, and so does a forced one.
func TestThrottledBreakerOpensByFailMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.6})
		p.FailMax = 3
		w := newTestBreaker(t, p)
		w.fillThrottle()
		for range 3 {
			call, _ := w.AllowActiveProbe()
			call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
		}
		w.want(events.Open)
		if c := w.change.Load(); c.Cause != events.CauseConsecutiveFailures || w.Status().RejectionRatio != 0 {
			t.Errorf("opened by %s, rejection ratio %v", c.Cause, w.Status().RejectionRatio)
		}
		w.recover()
		if n := w.refuse(1000, ErrThrottled); n > 0 {
			t.Errorf("rejected %d calls after the recovery", n)
		}
	})
}

func TestForcedClosedAndOffDoNotThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.9})
		w := newTestBreaker(t, p)
		w.fillThrottle()
		off := p
		off.Mode = Off
		w.SetPolicy(off)
		if n, ratio := w.refuse(1000, ErrThrottled), w.Status().RejectionRatio; n > 0 || ratio != 0 {
			t.Errorf("off: rejected %d calls, rejection ratio %v", n, ratio)
		}
		w.SetPolicy(p)
		if ratio := w.Status().RejectionRatio; math.Abs(ratio-50./101) > 1e-9 {
			t.Errorf("rejection ratio %v after off, want that of the calls before", ratio)
		}
		w.Force(events.Closed, 0, "")
		w.fillThrottle()
		if n, ratio := w.refuse(1000, ErrThrottled), w.Status().RejectionRatio; n > 0 || ratio != 0 {
			t.Errorf("forced closed: rejected %d calls, rejection ratio %v", n, ratio)
		}
		w.Release("")
		if n := w.refuse(1000, ErrThrottled); n > 0 {
			t.Errorf("rejected %d calls by those that were made in the forced state", n)
		}
	})
}

func TestShadowCountsThrottledCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.5})
		p.Mode = Shadow
		w := newTestBreaker(t, p)
		w.fillThrottle()
		var counted uint32
		for range 1000 {
			before := w.Status().ShadowRejections.Throttled
			call, err := w.Allow()
			if err != nil || call.State != events.Closed {
				t.Fatalf("%+v, %v", call, err)
			}
			call.Success(0)
			if w.Status().ShadowRejections.Throttled == before {
				counted++ // it was admitted anyway, so its result counts
			}
		}
		status := w.Status()
		if n := status.ShadowRejections; n.Throttled < 10 || n != (events.ShadowRejections{Throttled: 1000 - uint64(counted)}) {
			t.Errorf("counted %+v", n)
		}
		if got := status.Window.Successes; got != 50+counted {
			t.Errorf("%d successes are counted, want %d", got, 50+counted)
		}
	})
}
