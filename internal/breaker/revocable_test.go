package breaker

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// halfOpened returns a half-open breaker with one place, held by a probe that has waited for its
// client for as long as waited says.
func halfOpened(t *testing.T, waited *atomic.Int64) (*Breaker, Call) {
	t.Helper()
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: time.Hour, HalfOpenRequests: 1}, func(events.Event) {})
	t.Cleanup(b.Close)
	b.Force(events.HalfOpen, 0, "")
	call, err := b.AllowBeforeUpload()
	if err != nil {
		t.Fatal(err)
	}
	return b, call.Revocable(func() time.Duration { return time.Duration(waited.Load()) })
}

func TestProbeThatWaitsForItsClientIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		waited         time.Duration
		ready, unready bool // whether such a call is allowed
	}{
		"not at all":   {0, false, false},
		"for a moment": {revokeAfter - 1, false, false},
		"for a while":  {revokeAfter, true, false},
		"for long":     {revokeAfterBeforeUpload, true, true},
	} {
		for _, ready := range []bool{true, false} {
			var waited atomic.Int64
			b, slow := halfOpened(t, &waited)
			waited.Store(int64(c.waited))
			allow, want := b.AllowBeforeUpload, c.unready
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
				t.Errorf("%s, ready %v: a second call has the place as well", name, ready)
			}
			call.Success(0)
			if state := b.State(); state != events.Closed {
				t.Errorf("%s, ready %v: %v", name, ready, state)
			}
		}
	}
}

func TestReplacedProbeReportsOnce(t *testing.T) {
	failed := &events.Failure{Type: events.ErrorReset}
	for name, c := range map[string]struct {
		between func(b *Breaker, next Call) // what becomes of the call that has the place
		report  func(Call)
		want    events.State
	}{
		"the place is free":           {func(_ *Breaker, next Call) { next.Cancel() }, func(c Call) { c.Success(0) }, events.Closed},
		"the place is free, failure":  {func(_ *Breaker, next Call) { next.Cancel() }, func(c Call) { c.Failure(failed, 0) }, events.Open},
		"the place is in use":         {func(*Breaker, Call) {}, func(c Call) { c.Success(0) }, events.HalfOpen},
		"the place is in use, failed": {func(*Breaker, Call) {}, func(c Call) { c.Failure(failed, 0) }, events.HalfOpen},
		"the breaker is closed":       {func(_ *Breaker, next Call) { next.Success(0) }, func(c Call) { c.Failure(failed, 0) }, events.Closed},
		"the breaker is open":         {func(_ *Breaker, next Call) { next.Failure(failed, 0) }, func(c Call) { c.Success(0) }, events.Open},
		"cancelled":                   {func(_ *Breaker, next Call) { next.Cancel() }, Call.Cancel, events.HalfOpen},
		"not this instance's turn": {func(b *Breaker, next Call) {
			next.Cancel()
			b.SetProbePermission(func() bool { return false })
		}, func(c Call) { c.Success(0) }, events.HalfOpen},
	} {
		var waited atomic.Int64
		b, slow := halfOpened(t, &waited)
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

// A probe that anybody may replace is none that others have to wait for.
func TestStatusDoesNotCountProbesThatWaitForTheirClients(t *testing.T) {
	var waited atomic.Int64
	b, slow := halfOpened(t, &waited)
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

// Whatever the order of reports and replacements, no place is lost and none is used twice.
func TestReplacementsAndReportsAtOnceKeepThePlacesCount(t *testing.T) {
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: time.Hour, HalfOpenRequests: 2}, func(events.Event) {})
	defer b.Close()
	b.Force(events.HalfOpen, 0, "")
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 2000 {
				if call, err := b.AllowBeforeUpload(); err == nil {
					call.Revocable(func() time.Duration { return time.Minute }).Cancel()
				}
			}
		})
	}
	running.Wait()
	for range 2 {
		if _, err := b.Allow(); err != nil {
			t.Fatal("a place is lost: ", err)
		}
	}
	if _, err := b.Allow(); err != ErrHalfOpenLimit {
		t.Error("there is one place too many")
	}
}
