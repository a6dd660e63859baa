package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

func TestShadowRefusesNothingAndDecidesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Policy{Mode: Shadow, FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
		w.call(1, false, 0)
		w.want(events.Open)
		call, err := w.Allow()
		if err != nil || call.Shadowed != ErrOpen || call.State != events.Open {
			t.Fatalf("while open: %+v, %v", call, err)
		}
		failure := w.Status().LastFailure
		call.Failure(&events.Failure{Type: events.ErrorIdle}, 0)
		if got := w.Status().LastFailure; got != failure {
			t.Errorf("a shadowed call's failure became the last failure: %+v", got)
		}
		w.probing()
		probe, err := w.Allow()
		if err != nil || probe.Shadowed != nil || probe.State != events.HalfOpen {
			t.Fatalf("the probe: %+v, %v", probe, err)
		}
		call, err = w.Allow()
		if err != nil || call.Shadowed != ErrHalfOpenLimit || call.State != events.HalfOpen {
			t.Fatalf("beside the probe: %+v, %v", call, err)
		}
		call.Success(0)
		w.want(events.HalfOpen)
		probe.Success(0)
		w.want(events.Closed)
		w.Force(events.Open, 0, "")
		if call, err := w.Allow(); err != nil || call.Shadowed != ErrOpen {
			t.Errorf("held open: %+v, %v", call, err)
		}
		if open, limit := w.ShadowRejections(); open != 2 || limit != 1 {
			t.Errorf("counted %d and %d, want 2 and 1", open, limit)
		}
		w.SetPolicy(Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
		if _, err := w.Allow(); err != ErrOpen {
			t.Errorf("enforced: %v", err)
		}
		if open, limit := w.ShadowRejections(); open != 2 || limit != 1 {
			t.Errorf("counted %d and %d after a change of mode, want 2 and 1", open, limit)
		}
	})
}

func TestOffTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{FailMax: 3, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
		off := p
		off.Mode = Off
		w := watch(t, p)
		w.call(2, false, 0)
		w.SetPolicy(off)
		w.call(100, false, 0)
		w.call(1, true, 0)
		w.SetPolicy(p)
		if n := w.Status().ConsecutiveFailures; n != 2 {
			t.Fatalf("%d failures in a row after Off, want the 2 of before", n)
		}
		w.call(1, false, 0)
		w.want(events.Open)
		until := w.RetryAt()
		w.SetPolicy(off)
		for _, allow := range []func() (Call, error){w.Allow, w.AllowProbe} {
			call, err := allow()
			if err != nil || call.State != events.Open || call.Shadowed != nil {
				t.Fatalf("%+v, %v", call, err)
			}
			call.Success(0)
		}
		if got := w.RetryAt(); !got.Equal(until) {
			t.Errorf("open until %v, was %v", got, until)
		}
		w.probing()
		w.call(1, true, 0)
		w.want(events.HalfOpen)
		if open, limit := w.ShadowRejections(); open != 0 || limit != 0 {
			t.Errorf("Off counted %d and %d shadow rejections", open, limit)
		}
	})
}

// A call that was admitted before Off is still a call.
func TestCallsOutliveAChangeOfMode(t *testing.T) {
	p := Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
	w := watch(t, p)
	before, _ := w.Allow()
	p.Mode = Off
	w.SetPolicy(p)
	during, _ := w.Allow()
	p.Mode = Enforce
	w.SetPolicy(p)
	during.Failure(&events.Failure{}, 0)
	w.want(events.Closed)
	before.Failure(&events.Failure{}, 0)
	w.want(events.Open)
}

func TestReportsWithNowhereToGoDoNothing(t *testing.T) {
	w := watch(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
	w.Force(events.Open, 0, "")
	refused, err := w.Allow()
	if err == nil {
		t.Fatal("not refused")
	}
	for _, call := range []Call{{}, refused} {
		call.Success(time.Second)
		call.Failure(&events.Failure{}, time.Second)
		call.Cancel()
	}
	if f := w.Status().LastFailure; f != nil {
		t.Errorf("last failure %+v", f)
	}
}

func TestProbedKeepsHalfOpenForTheProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 2, ActiveProbing: true})
		call, err := w.AllowProbe()
		if err != nil || call.State != events.Closed {
			t.Fatalf("a probe while closed: %+v, %v", call, err)
		}
		call.Failure(&events.Failure{}, 0)
		w.want(events.Open)
		if _, err := w.AllowProbe(); err != ErrOpen {
			t.Errorf("a probe while open: %v", err)
		}
		w.probing()
		for range 3 {
			if call, err := w.Allow(); err != ErrHalfOpenLimit || call.State != events.HalfOpen {
				t.Errorf("a user's call: %+v, %v", call, err)
			}
		}
		for range 2 {
			call, err := w.AllowProbe()
			if err != nil || call.State != events.HalfOpen {
				t.Fatalf("a probe: %+v, %v", call, err)
			}
			defer call.Success(0)
		}
		if _, err := w.AllowProbe(); err != ErrHalfOpenLimit {
			t.Errorf("a third probe: %v", err)
		}
	})
}

// Traffic may be first to see that an opening is over. It must not become the probe.
func TestUsersCallEndsAnOpeningWithoutProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, ActiveProbing: true})
		w.call(1, false, 0)
		until := w.RetryAt()
		w.Close() // no clock: only calls can tell
		time.Sleep(time.Until(until))
		if _, err := w.Allow(); err != ErrOpen {
			t.Fatalf("at the opening's last moment: %v", err)
		}
		time.Sleep(2 * time.Nanosecond)
		call, err := w.Allow()
		if err != ErrHalfOpenLimit || call.State != events.HalfOpen {
			t.Fatalf("a user's call: %+v, %v", call, err)
		}
		if c := w.change.Load(); c.To != events.HalfOpen || c.Cause != events.CauseRecoveryTimeout {
			t.Errorf("told %+v", c)
		}
		probe, err := w.AllowProbe()
		if err != nil {
			t.Fatalf("the probe's place is taken: %v", err)
		}
		probe.Success(0)
		w.call(1, true, 0)
		w.want(events.Closed)
	})
}

func TestProbedCanChangeWhileHalfOpen(t *testing.T) {
	p := Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
	probed := p
	probed.ActiveProbing = true
	w := watch(t, p)
	w.Force(events.HalfOpen, 0, "")
	w.SetPolicy(probed)
	if _, err := w.Allow(); err != ErrHalfOpenLimit {
		t.Fatalf("reserved: %v", err)
	}
	w.SetPolicy(p)
	call, err := w.Allow()
	if err != nil {
		t.Fatalf("free again: %v", err)
	}
	w.SetPolicy(probed)
	call.Success(0) // admitted as a probe, so it is one
	w.want(events.Closed)
}

// Shadow moves as Enforce does, so a prober's probe is refused where it would say nothing.
func TestShadowReservesHalfOpenToo(t *testing.T) {
	w := watch(t, Policy{Mode: Shadow, FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, ActiveProbing: true})
	w.Force(events.Open, 0, "")
	if _, err := w.AllowProbe(); err != ErrOpen {
		t.Errorf("a probe while open: %v", err)
	}
	w.Force(events.HalfOpen, 0, "")
	call, err := w.Allow()
	if err != nil || call.Shadowed != ErrHalfOpenLimit {
		t.Fatalf("a user's call: %+v, %v", call, err)
	}
	call.Success(0)
	w.want(events.HalfOpen)
	probe, err := w.AllowProbe()
	if err != nil || probe.Shadowed != nil {
		t.Fatalf("a probe: %+v, %v", probe, err)
	}
	probe.Success(0)
	w.want(events.Closed)
	if open, limit := w.ShadowRejections(); open != 0 || limit != 1 {
		t.Errorf("counted %d and %d, want 0 and 1", open, limit)
	}
}
