package keyed

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// A key that is quiet is not asked for; that must make no difference.
func TestKeyMatchesABreakerOfItsOwn(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := breaker.Policy{FailMax: rapid.IntRange(1, 3).Draw(r, "fail_max"), RecoveryTimeout: time.Hour, HalfOpenRequests: 1, RetryAfterMax: time.Hour}
		p.RetryAfter = rapid.IntRange(0, 3).Draw(r, "retry_after")
		p.FailMax *= rapid.IntRange(0, 1).Draw(r, "uses fail_max")
		p.Algorithm = rapid.SampledFrom([]string{"ratio", "count", "budget", "expression"}).Draw(r, "algorithm")
		if p.Algorithm == "expression" {
			p.Options = &algorithm.ExpressionOptions{OpenWhen: "requests >= 3 && failure_ratio >= 0.5 || slow_ratio > 0.3 || requests > 20"}
		}
		p.FailureRatio = rapid.SampledFrom([]float64{0, 0.3, 0.5}).Draw(r, "failure_ratio")
		p.SlowCallRatio, p.SlowCallDuration = rapid.SampledFrom([]float64{0, 0.4}).Draw(r, "slow_call_ratio"), time.Second
		p.MinRequests, p.Window = rapid.IntRange(1, 10).Draw(r, "min_requests"), time.Hour
		service := breaker.New("svc", breaker.Policy{HalfOpenRequests: 1, Limits: algorithm.Limits{SlowCallDuration: p.SlowCallDuration}}, func(events.Event) {})
		keys, own := New(service, func(events.Event) {}), breaker.New("own", p, func(events.Event) {})
		keys.SetPolicy(p, 1)
		defer own.Close()
		defer keys.Close()
		type pair struct{ a, b breaker.Call }
		var inFlight []pair
		for range rapid.IntRange(1, 60).Draw(r, "steps") {
			end := func(report func(breaker.Call)) {
				if len(inFlight) == 0 {
					return
				}
				i := rapid.IntRange(0, len(inFlight)-1).Draw(r, "call")
				report(inFlight[i].a)
				report(inFlight[i].b)
				inFlight = slices.Delete(inFlight, i, i+1)
			}
			took := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Millisecond, time.Minute}).Draw(r, "took")
			switch rapid.SampledFrom([]string{"begin", "begin", "begin", "success", "success", "failure", "cancel", "abandon", "retry after", "close"}).Draw(r, "step") {
			case "begin":
				a, errA := keys.Allow("k", time.Now(), true)
				b, errB := own.Allow()
				if errA != errB || a.State != b.State {
					r.Fatalf("admission: %v %v, want %v %v", a.State, errA, b.State, errB)
				}
				if errA == nil {
					inFlight = append(inFlight, pair{a, b})
				}
			case "success":
				end(func(c breaker.Call) { c.Success(took) })
			case "failure":
				end(func(c breaker.Call) { c.Failure(failure, took) })
			case "abandon":
				end(func(c breaker.Call) { c.Abandon(took) })
			case "cancel":
				end(func(c breaker.Call) { c.Cancel() })
			case "retry after":
				until := time.Now().Add(time.Minute)
				end(func(c breaker.Call) { c.RetryAfter(until) })
			case "close":
				if len(inFlight) == 0 { // a call that began before would count in one and not in the other
					_ = keys.Force("k", events.Closed, 0, "")
					keys.Release("k", "")
					own.Force(events.Closed, 0, "")
					own.Release("")
				}
			}
			a, b := keys.Status("k"), own.Status()
			if a.State != b.State || a.ConsecutiveFailures != b.ConsecutiveFailures {
				r.Fatalf("%v with %d failures, want %v with %d", a.State, a.ConsecutiveFailures, b.State, b.ConsecutiveFailures)
			}
		}
	})
}

// Successes that were counted late have the times at which they ended.
func TestWindowOfAKey(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		want  events.State
	}{{time.Second, events.Closed}, {29 * time.Second, events.Closed}, {31 * time.Second, events.Open}} {
		synctest.Test(t, func(t *testing.T) {
			p := breaker.Policy{Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 4, Window: 30 * time.Second}}
			b := newBed(t, p, 10)
			for range 3 { // some are counted before the first failure, and some with it
				b.succeed("a")
				time.Sleep(time.Millisecond)
				b.succeed("a")
				b.succeed("a")
			}
			time.Sleep(c.after)
			b.fail("a", 4)
			if got := b.Status("a").State; got != c.want {
				t.Errorf("%v after the successes, 4 failures: %v, want %v", c.after, got, c.want)
			}
		})
	}
}

func TestSuccessesBeforeAForcedStateDoNotCount(t *testing.T) {
	b := newBed(t, breaker.Policy{Limits: algorithm.Limits{FailureRatio: 0.6, MinRequests: 2, Window: time.Hour}}, 10)
	b.succeed("a")
	b.succeed("a")
	_ = b.Force("a", events.Closed, 0, "")
	b.Release("a", "")
	b.fail("a", 2)
	b.rejects("a", events.Open, breaker.ErrOpen)
}

func TestAbandonedCallDoesNotEndARowOfRetryAfter(t *testing.T) {
	b := newBed(t, breaker.Policy{RetryAfter: 2, RetryAfterMax: time.Hour, FailMax: 2}, 10)
	b.fail("a", 1) // so that the breaker is asked
	other := b.allow("a")
	b.allow("a").RetryAfter(time.Now().Add(time.Minute))
	b.succeed("a") // ends the rows
	b.allow("a").RetryAfter(time.Now().Add(time.Minute))
	other.Abandon(time.Second)
	b.succeed("a") // ends the row again
	b.allow("a").RetryAfter(time.Now().Add(time.Minute))
	if got := b.Status("a").State; got != events.Closed {
		t.Errorf("the breaker is %v", got)
	}
}
