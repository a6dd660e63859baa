package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func retryAfterPolicy() breaker.Policy {
	return breaker.Policy{
		Limits:  algorithm.Limits{Window: 10 * time.Second},
		FailMax: 3, RecoveryTimeout: 4 * time.Second, HalfOpenRequests: 1,
		RetryAfter: 1, RetryAfterMax: 5 * time.Minute,
	}
}

// answer makes a call whose answer asks for no call before until.
func answer(t *testing.T, b *breaker.Breaker, until time.Time) {
	t.Helper()
	call, err := b.Allow()
	if err != nil {
		t.Fatal(err)
	}
	call.RetryAfter(until)
}

// restart returns a new breaker with the state that b has, after the process has not run for a while.
func restart(t *testing.T, b *breaker.Breaker, policy breaker.Policy, down time.Duration) *breaker.Breaker {
	s := StateOf("svc", "i", b.Status())
	b.Close()
	time.Sleep(down)
	next := breaker.New("svc", policy, func(events.Event) {})
	t.Cleanup(next.Close)
	Restore(next, s)
	return next
}

func TestRestartKeepsAnOpeningByRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy()
		b := breaker.New("svc", p, func(events.Event) {})
		answer(t, b, time.Now().Add(4*time.Minute))
		since, until := b.Status().Since, b.RetryAt()
		for range 2 { // the second restart has only what the first one restored
			b = restart(t, b, p, time.Minute)
			if s := b.Status(); s.State != events.Open || !s.RetryAt.Equal(until) || !s.Since.Equal(since) {
				t.Fatalf("%v since %v until %v, want open since %v until %v", s.State, s.Since, s.RetryAt, since, until)
			}
		}
		p.RecoveryTimeout = time.Hour
		b.SetPolicy(p)
		if got := b.RetryAt(); !got.Equal(until) {
			t.Errorf("open until %v after a reload, want %v", got, until)
		}
		p.RetryAfterMax = 30 * time.Second
		if b = restart(t, b, p, time.Minute); time.Until(b.RetryAt()) != 30*time.Second {
			t.Errorf("open for %v with a lower maximum, want 30s", time.Until(b.RetryAt()))
		}
		if b = restart(t, b, p, time.Minute); b.State() != events.HalfOpen {
			t.Errorf("%v after the end, want half-open", b.State())
		}
	})
}

// An opening that later answers have prolonged may last longer than the maximum from its start.
func TestRestartKeepsAProlongedOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy()
		b := breaker.New("svc", p, func(events.Event) {})
		late, _ := b.Allow()
		answer(t, b, time.Now().Add(time.Hour))
		time.Sleep(4 * time.Minute)
		late.RetryAfter(time.Now().Add(time.Hour))
		if b = restart(t, b, p, time.Second); time.Until(b.RetryAt()) != 5*time.Minute-time.Second {
			t.Errorf("open for %v, want 4m59s", time.Until(b.RetryAt()))
		}
	})
}

// Other openings are limited by the recovery timeout, as they were made.
func TestRestartLimitsOtherOpenings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy()
		b := breaker.New("svc", p, func(events.Event) {})
		b.SetState(breaker.StateOverride{State: events.Open, Duration: time.Minute, ConsecutiveOpenings: 1})
		b = restart(t, b, p, time.Second)
		if s := b.Status(); time.Until(s.RetryAt) != 3*time.Second || s.Cause != events.CauseRestored {
			t.Errorf("open by %s for %v, want 3s", s.Cause, time.Until(s.RetryAt))
		}
	})
}

// A recovery ramp is not repeated after a restart.
func TestRestartBeginsNoRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retryAfterPolicy()
		p.RecoveryRamp = time.Minute
		b := breaker.New("svc", p, func(events.Event) {})
		b.SetState(breaker.StateOverride{State: events.Open, Duration: time.Second})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		call, _ := b.Allow()
		call.Success(0)
		if s := b.Status(); s.State != events.Closed || s.AdmittedRatio != 0.1 || s.ConsecutiveOpenings != 1 {
			t.Fatalf("%+v", s)
		}
		b = restart(t, b, p, time.Second)
		if s := b.Status(); s.State != events.Closed || s.AdmittedRatio != 1 || s.ConsecutiveOpenings != 1 {
			t.Errorf("%+v after a restart", s)
		}
	})
}
