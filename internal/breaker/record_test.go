package breaker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

// recordedBreaker is a breaker and the calls that it has recorded.
type recordedBreaker struct {
	*testBreaker
	calls []events.Call
}

func newRecordedBreaker(t *testing.T, p Policy) *recordedBreaker {
	w := &recordedBreaker{testBreaker: &testBreaker{t: t}}
	w.Breaker = NewIn(Environment{Record: func(c events.Call) { w.calls = append(w.calls, c) }}, "svc", p, func(events.Event) {})
	t.Cleanup(w.Close)
	return w
}

func (w *recordedBreaker) wantCalls(want ...events.Call) {
	w.t.Helper()
	if !slices.Equal(w.calls, want) {
		w.t.Errorf("recorded\n%+v, want\n%+v", w.calls, want)
	}
	w.calls = nil
}

func TestEachCallIsRecordedWithItsResult(t *testing.T) {
	for _, mode := range []Mode{Enforce, Shadow, Off} {
		synctest.Test(t, func(t *testing.T) {
			w := newRecordedBreaker(t, Policy{Mode: mode, FailMax: 3, RetryAfter: 1, RetryAfterMax: time.Minute, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
			asked := time.Now()
			calls := make([]Call, 7)
			for i := range calls {
				calls[i] = w.allow()
			}
			time.Sleep(time.Second)
			calls[0].WithStatus(200).Success(time.Millisecond)
			calls[1].Failure(&events.Failure{Type: events.ErrorTimeout}, time.Second)
			calls[2].WithStatus(501).Cancel()
			calls[3].Abandon(2 * time.Second)
			calls[4].Reject()
			calls[5].Withdraw()
			calls[6].WithStatus(429).RetryAfter(time.Now().Add(time.Minute))
			w.wantCalls(
				events.Call{Time: asked, Result: events.ResultSuccess, Status: 200, Duration: time.Millisecond},
				events.Call{Time: asked, Result: events.ResultFailure, ErrorType: events.ErrorTimeout, Duration: time.Second},
				events.Call{Time: asked, Result: events.ResultCancelled, Status: 501},
				events.Call{Time: asked, Result: events.ResultCancelled, Duration: 2 * time.Second},
				events.Call{Time: asked, Result: events.ResultRejected},
				events.Call{Time: asked, Result: events.ResultCancelled, Status: 429},
			)
			if call, err := w.Allow(); err == nil { // open, in the modes other than off; only enforce rejects
				call.Success(0)
			}
			want := events.Call{Time: time.Now(), Result: events.ResultSuccess}
			if mode == Enforce {
				want.Result = events.ResultRejected
			}
			w.wantCalls(want)
		})
	}
}

// An active probe is recorded as a call, but none that was not sent.
func TestActiveProbesAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newRecordedBreaker(t, Policy{FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, ActiveProbing: true})
		w.call(1, false, 0)
		w.calls = nil
		if _, err := w.AllowActiveProbe(); err != ErrOpen {
			t.Fatal(err)
		}
		w.wantCalls()
		w.waitHalfOpen()
		probe, err := w.AllowActiveProbe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.AllowActiveProbe()
		now := time.Now()
		probe.WithRevocablePermit(func() time.Duration { return 0 }).WithStatus(204).Success(time.Second)
		w.wantCalls(events.Call{Time: now, Result: events.ResultSuccess, Status: 204, Duration: time.Second})
	})
}
