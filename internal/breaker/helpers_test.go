package breaker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

// testBreaker is a breaker and the last transition that it published.
type testBreaker struct {
	*Breaker
	t      *testing.T
	change atomic.Pointer[events.StateChanged]
}

// newTestBreaker returns a breaker that is closed when the test ends.
func newTestBreaker(t *testing.T, p Policy) *testBreaker {
	w := &testBreaker{t: t}
	w.Breaker = New("svc", p, func(e events.Event) {
		if c, ok := e.(events.StateChanged); ok {
			w.change.Store(&c)
		}
	})
	t.Cleanup(w.Close)
	return w
}

// call makes n calls that succeed or fail, with the duration took.
func (w *testBreaker) call(n int, ok bool, took time.Duration) {
	w.t.Helper()
	for range n {
		call, err := w.Allow()
		if err != nil {
			w.t.Fatalf("rejected in state %v: %v", call.State, err)
		}
		if ok {
			call.Success(took)
		} else {
			call.Failure(&events.Failure{Type: events.ErrorReset, Detail: "connection reset"}, took)
		}
	}
}

func (w *testBreaker) want(state events.State) {
	w.t.Helper()
	if got := w.State(); got != state {
		w.t.Fatalf("state %v, want %v", got, state)
	}
}

// recover waits for the end of the opening and closes the breaker with a successful probe.
func (w *testBreaker) recover() {
	w.t.Helper()
	time.Sleep(time.Until(w.RetryAt()) + 2*time.Nanosecond)
	synctest.Wait()
	w.call(1, true, 0)
	w.want(events.Closed)
}

// fail opens the breaker with a failed call or probe and returns the duration of the opening.
func (w *testBreaker) fail() time.Duration {
	w.t.Helper()
	w.call(1, false, 0)
	w.want(events.Open)
	return w.RetryAt().Sub(w.Status().Since)
}

// waitHalfOpen waits until the opening has ended.
func (w *testBreaker) waitHalfOpen() {
	w.t.Helper()
	time.Sleep(time.Until(w.RetryAt()) + 2*time.Nanosecond)
	synctest.Wait()
	w.want(events.HalfOpen)
}

// shadowedBy returns the error with which a call that was admitted only because of Shadow would have been rejected; nil for another
// call.
func shadowedBy(c Call) error {
	switch {
	case c.report != nil:
		return nil
	case c.State == events.HalfOpen:
		return ErrHalfOpenLimit
	}
	return ErrOpen
}
