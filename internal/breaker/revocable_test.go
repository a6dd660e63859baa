package breaker

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// newHalfOpen returns a half-open breaker with one permit, and the revocable probe that has it.
// waited is how long the probe has waited for its client, in nanoseconds.
func newHalfOpen(t *testing.T, waited *atomic.Int64) (*Breaker, Call) {
	t.Helper()
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: time.Hour, HalfOpenRequests: 1}, func(events.Event) {})
	t.Cleanup(b.Close)
	b.Force(events.HalfOpen, 0, "")
	call, err := b.AllowBeforeUpload()
	if err != nil {
		t.Fatal(err)
	}
	return b, call.WithRevocablePermit(func() time.Duration { return time.Duration(waited.Load()) })
}

func TestPermitOfAProbeThatWaitsForItsClientIsRevoked(t *testing.T) {
	for name, c := range map[string]struct {
		waited              time.Duration
		ready, beforeUpload bool // whether Allow and AllowBeforeUpload admit a call
	}{
		"not at all":            {0, false, false},
		"too short":             {revokeAfter - 1, false, false},
		"long enough for Allow": {revokeAfter, true, false},
		"long enough for both":  {revokeAfterBeforeUpload, true, true},
	} {
		for _, ready := range []bool{true, false} {
			var waited atomic.Int64
			b, slow := newHalfOpen(t, &waited)
			waited.Store(int64(c.waited))
			allow, want := b.AllowBeforeUpload, c.beforeUpload
			if ready {
				allow, want = b.Allow, c.ready
			}
			call, err := allow()
			if (err == nil) != want {
				t.Errorf("%s, ready %v: %v", name, ready, err)
			}
			if !want {
				call = slow
			} else if _, err := b.Allow(); err == nil {
				t.Errorf("%s, ready %v: a second call has got a permit", name, ready)
			}
			call.Success(0)
			if state := b.State(); state != events.Closed {
				t.Errorf("%s, ready %v: %v", name, ready, state)
			}
		}
	}
}

func TestProbeWithRevokedPermitReportsOnce(t *testing.T) {
	failed := &events.Failure{Type: events.ErrorReset}
	for name, c := range map[string]struct {
		between func(b *Breaker, next Call) // what happens to the call that has the permit
		report  func(Call)
		want    events.State
	}{
		"the permit is free":            {func(_ *Breaker, next Call) { next.Cancel() }, func(c Call) { c.Success(0) }, events.Closed},
		"the permit is free, failure":   {func(_ *Breaker, next Call) { next.Cancel() }, func(c Call) { c.Failure(failed, 0) }, events.Open},
		"the permit is in use":          {func(*Breaker, Call) {}, func(c Call) { c.Success(0) }, events.HalfOpen},
		"the permit is in use, failure": {func(*Breaker, Call) {}, func(c Call) { c.Failure(failed, 0) }, events.HalfOpen},
		"the breaker is closed":         {func(_ *Breaker, next Call) { next.Success(0) }, func(c Call) { c.Failure(failed, 0) }, events.Closed},
		"the breaker is open":           {func(_ *Breaker, next Call) { next.Failure(failed, 0) }, func(c Call) { c.Success(0) }, events.Open},
		"cancelled":                     {func(_ *Breaker, next Call) { next.Cancel() }, Call.Cancel, events.HalfOpen},
		"probes are not permitted": {func(b *Breaker, next Call) {
			next.Cancel()
			b.SetProbePermission(func() bool { return false })
		}, func(c Call) { c.Success(0) }, events.HalfOpen},
	} {
		var waited atomic.Int64
		b, slow := newHalfOpen(t, &waited)
		waited.Store(int64(time.Minute))
		next, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		waited.Store(0)
		c.between(b, next)
		c.report(slow)
		slow.Cancel() // a second report
		if state := b.State(); state != c.want {
			t.Errorf("%s: %v, want %v", name, state, c.want)
		}
	}
}

// A probe whose permit any call may revoke is not counted as in flight.
func TestProbesInFlightExcludesRevocableProbes(t *testing.T) {
	var waited atomic.Int64
	b, slow := newHalfOpen(t, &waited)
	if n := b.Status().ProbesInFlight; n != 1 {
		t.Errorf("%d probes, want 1", n)
	}
	waited.Store(int64(revokeAfterBeforeUpload))
	if n := b.Status().ProbesInFlight; n != 0 {
		t.Errorf("%d probes, want none", n)
	}
	slow.Cancel()
	waited.Store(0)
	if n := b.Status().ProbesInFlight; n != 0 {
		t.Errorf("%d probes after the report", n)
	}
}

// Concurrent reports and revocations neither lose nor duplicate a permit.
func TestConcurrentRevocationsKeepTheNumberOfPermits(t *testing.T) {
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: time.Hour, HalfOpenRequests: 2}, func(events.Event) {})
	defer b.Close()
	b.Force(events.HalfOpen, 0, "")
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 2000 {
				if call, err := b.AllowBeforeUpload(); err == nil {
					call.WithRevocablePermit(func() time.Duration { return time.Minute }).Cancel()
				}
			}
		})
	}
	running.Wait()
	for range 2 {
		if _, err := b.Allow(); err != nil {
			t.Fatal("a permit is lost: ", err)
		}
	}
	if _, err := b.Allow(); err != ErrHalfOpenLimit {
		t.Error("there is one permit too many")
	}
}
