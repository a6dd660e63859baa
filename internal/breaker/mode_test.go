package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

func TestShadowAdmitsEveryCallAndChangesState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, Policy{Mode: Shadow, FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
		w.call(1, false, 0)
		w.want(events.Open)
		call, err := w.Allow()
		if err != nil || shadowedBy(call) != ErrOpen || call.State != events.Open {
			t.Fatalf("open: %+v, %v", call, err)
		}
		failure := w.Status().LastFailure
		call.Failure(&events.Failure{Type: events.ErrorIdle}, 0)
		if got := w.Status().LastFailure; got != failure {
			t.Errorf("the failure of a shadowed call became the last failure: %+v", got)
		}
		w.waitHalfOpen()
		probe, err := w.Allow()
		if err != nil || shadowedBy(probe) != nil || probe.State != events.HalfOpen {
			t.Fatalf("the probe: %+v, %v", probe, err)
		}
		call, err = w.Allow()
		if err != nil || shadowedBy(call) != ErrHalfOpenLimit || call.State != events.HalfOpen {
			t.Fatalf("during the probe: %+v, %v", call, err)
		}
		call.Success(0)
		w.want(events.HalfOpen)
		probe.Success(0)
		w.want(events.Closed)
		w.Force(events.Open, 0, "")
		if call, err := w.Allow(); err != nil || shadowedBy(call) != ErrOpen {
			t.Errorf("forced open: %+v, %v", call, err)
		}
		if n := w.Status().ShadowRejections; n.Open != 2 || n.HalfOpenLimit != 1 {
			t.Errorf("counted %+v, want 2 and 1", n)
		}
		w.SetPolicy(Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
		if _, err := w.Allow(); err != ErrOpen {
			t.Errorf("enforced: %v", err)
		}
		if n := w.Status().ShadowRejections; n.Open != 2 || n.HalfOpenLimit != 1 {
			t.Errorf("counted %+v after a change of mode, want 2 and 1", n)
		}
	})
}

func TestOffIgnoresCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{FailMax: 3, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
		off := p
		off.Mode = Off
		w := newTestBreaker(t, p)
		w.call(2, false, 0)
		w.SetPolicy(off)
		w.call(100, false, 0)
		w.call(1, true, 0)
		w.SetPolicy(p)
		if n := w.Status().ConsecutiveFailures; n != 2 {
			t.Fatalf("%d consecutive failures after Off, want the 2 from before", n)
		}
		w.call(1, false, 0)
		w.want(events.Open)
		until := w.RetryAt()
		w.SetPolicy(off)
		for _, allow := range []func() (Call, error){w.Allow, w.AllowActiveProbe} {
			call, err := allow()
			if err != nil || call.State != events.Open {
				t.Fatalf("%+v, %v", call, err)
			}
			call.Success(0)
		}
		if got := w.RetryAt(); !got.Equal(until) {
			t.Errorf("open until %v, was %v", got, until)
		}
		w.waitHalfOpen()
		w.call(1, true, 0)
		w.want(events.HalfOpen)
		if n := w.Status().ShadowRejections; n != (events.ShadowRejections{}) {
			t.Errorf("Off counted %+v", n)
		}
	})
}

// A call that was admitted before the mode Off still counts.
func TestCallAdmittedBeforeOffCounts(t *testing.T) {
	p := Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
	w := newTestBreaker(t, p)
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

func TestReportsOnRejectedCallsHaveNoEffect(t *testing.T) {
	w := newTestBreaker(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
	w.Force(events.Open, 0, "")
	rejected, err := w.Allow()
	if err == nil {
		t.Fatal("not rejected")
	}
	for _, call := range []Call{{}, rejected} {
		call.Success(time.Second)
		call.Failure(&events.Failure{}, time.Second)
		call.Cancel()
	}
	if f := w.Status().LastFailure; f != nil {
		t.Errorf("last failure %+v", f)
	}
}

func TestActiveProbingReservesHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 2, ActiveProbing: true})
		call, err := w.AllowActiveProbe()
		if err != nil || call.State != events.Closed {
			t.Fatalf("a probe while closed: %+v, %v", call, err)
		}
		call.Failure(&events.Failure{}, 0)
		w.want(events.Open)
		if _, err := w.AllowActiveProbe(); err != ErrOpen {
			t.Errorf("a probe while open: %v", err)
		}
		w.waitHalfOpen()
		for range 3 {
			if call, err := w.Allow(); err != ErrHalfOpenLimit || call.State != events.HalfOpen {
				t.Errorf("a client's call: %+v, %v", call, err)
			}
		}
		for range 2 {
			call, err := w.AllowActiveProbe()
			if err != nil || call.State != events.HalfOpen {
				t.Fatalf("a probe: %+v, %v", call, err)
			}
			defer call.Success(0)
		}
		if _, err := w.AllowActiveProbe(); err != ErrHalfOpenLimit {
			t.Errorf("a third probe: %v", err)
		}
	})
}

// A client call may be the first to find that an opening has ended. It must not become the probe.
func TestClientCallEndsAnOpeningWithoutProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, ActiveProbing: true})
		w.call(1, false, 0)
		until := w.RetryAt()
		w.Close() // stops the timer, so that only calls end the opening
		time.Sleep(time.Until(until) - 1)
		if _, err := w.Allow(); err != ErrOpen {
			t.Fatalf("in the last nanosecond of the opening: %v", err)
		}
		time.Sleep(time.Nanosecond)
		call, err := w.Allow()
		if err != ErrHalfOpenLimit || call.State != events.HalfOpen {
			t.Fatalf("a client's call: %+v, %v", call, err)
		}
		if c := w.change.Load(); c.To != events.HalfOpen || c.Cause != events.CauseRecoveryTimeout {
			t.Errorf("published %+v", c)
		}
		probe, err := w.AllowActiveProbe()
		if err != nil {
			t.Fatalf("no permit for the probe: %v", err)
		}
		probe.Success(0)
		w.call(1, true, 0)
		w.want(events.Closed)
	})
}

func TestActiveProbingCanChangeWhileHalfOpen(t *testing.T) {
	p := Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
	reserved := p
	reserved.ActiveProbing = true
	w := newTestBreaker(t, p)
	w.Force(events.HalfOpen, 0, "")
	w.SetPolicy(reserved)
	if _, err := w.Allow(); err != ErrHalfOpenLimit {
		t.Fatalf("reserved: %v", err)
	}
	w.SetPolicy(p)
	call, err := w.Allow()
	if err != nil {
		t.Fatalf("no longer reserved: %v", err)
	}
	w.SetPolicy(reserved)
	call.Success(0) // it was admitted as a probe
	w.want(events.Closed)
}

// The state changes in Shadow as in Enforce, so an active probe is rejected at the same times.
func TestShadowReservesHalfOpen(t *testing.T) {
	w := newTestBreaker(t, Policy{Mode: Shadow, FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, ActiveProbing: true})
	w.Force(events.Open, 0, "")
	if _, err := w.AllowActiveProbe(); err != ErrOpen {
		t.Errorf("a probe while open: %v", err)
	}
	w.Force(events.HalfOpen, 0, "")
	call, err := w.Allow()
	if err != nil || shadowedBy(call) != ErrHalfOpenLimit {
		t.Fatalf("a client's call: %+v, %v", call, err)
	}
	call.Success(0)
	w.want(events.HalfOpen)
	probe, err := w.AllowActiveProbe()
	if err != nil || shadowedBy(probe) != nil {
		t.Fatalf("a probe: %+v, %v", probe, err)
	}
	probe.Success(0)
	w.want(events.Closed)
	if n := w.Status().ShadowRejections; n.Open != 0 || n.HalfOpenLimit != 1 {
		t.Errorf("counted %+v, want 0 and 1", n)
	}
}

// The open period of a half-open engine's gobreaker is over at once. That must not admit a second probe before the breaker has taken
// notice that the first one has failed.
func TestFailedProbeEndsItsEngine(t *testing.T) {
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}, func(events.Event) {})
	defer b.Close()
	e := newHalfOpenEngine(&b.env, &b.policy)
	report, err := e.allow(revokeAfter)
	if err != nil {
		t.Fatal(err)
	}
	report(outcomeFailed)
	for range 3 {
		time.Sleep(time.Microsecond)
		if _, err := e.allow(revokeAfter); err != gobreaker.ErrOpenState {
			t.Fatalf("a call after a failed probe: %v", err)
		}
	}
	if pending := e.takeTransitions(); len(pending) == 0 || pending[0].to != events.Open {
		t.Errorf("transitions %+v", pending)
	}
}
