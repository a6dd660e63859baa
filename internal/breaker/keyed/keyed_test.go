package keyed

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// bed is a service's breaker and those of its keys.
type bed struct {
	*Breakers
	t       *testing.T
	service *breaker.Breaker
	policy  breaker.Policy

	mu        sync.Mutex
	published []events.KeyStateChanged
}

func newBed(t *testing.T, p breaker.Policy, limit int) *bed {
	p.ByKey, p.HalfOpenRequests = true, max(p.HalfOpenRequests, 1)
	if p.RecoveryTimeout == 0 {
		p.RecoveryTimeout = time.Minute
	}
	b := &bed{t: t, service: breaker.New("svc", p, func(events.Event) {}), policy: p}
	b.Breakers = New(b.service, func(e events.Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.published = append(b.published, e.(events.KeyStateChanged))
	})
	b.SetPolicy(p, limit)
	t.Cleanup(func() {
		b.Close()
		b.service.Close()
	})
	return b
}

var failure = &events.Failure{Type: events.ErrorStatus, Detail: "status 500"}

// fail makes n calls of a key that fail.
func (b *bed) fail(key string, n int) {
	b.t.Helper()
	for range n {
		b.allow(key).Failure(failure, 0)
	}
}

func (b *bed) succeed(key string) {
	b.t.Helper()
	b.allow(key).Success(time.Millisecond)
}

func (b *bed) allow(key string) breaker.Call {
	b.t.Helper()
	call, err := b.Allow(key, time.Now(), true)
	if err != nil {
		b.t.Fatalf("call of %q: %v", key, err)
	}
	return call
}

// rejects checks that a call of a key is rejected in a state.
func (b *bed) rejects(key string, want events.State, wantErr error) {
	b.t.Helper()
	if call, err := b.Allow(key, time.Now(), true); err != wantErr || call.State != want {
		b.t.Errorf("call of %q: state %v, error %v; want %v, %v", key, call.State, err, want, wantErr)
	}
}

// keys returns the listed keys.
func (b *bed) keys() string {
	var keys []string
	for _, s := range b.List() {
		keys = append(keys, s.Key)
	}
	return strings.Join(keys, " ")
}

func TestEachKeyHasItsOwnBreaker(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 3}, 10)
	b.fail("a", 3)
	b.rejects("a", events.Open, breaker.ErrOpen)
	b.succeed("b")
	b.succeed("")
	if s := b.service.Status(); s.State != events.Closed {
		t.Errorf("the service's breaker is %v", s.State)
	}
	if got, want := b.keys(), "a b"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	s := b.Status("a")
	if s.State != events.Open || s.ConsecutiveFailures != 3 || s.LastFailure == nil || s.RetryAt.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestTheServiceCountsTheCallsOfAllKeys(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 5}, 10)
	b.fail("a", 3)
	if n := b.service.Status().ConsecutiveFailures; n != 3 {
		t.Errorf("%d consecutive failures, want 3", n)
	}
	for _, key := range []string{"b", "c"} {
		b.fail(key, 1)
	}
	b.rejects("d", events.Open, breaker.ErrOpen)
	b.rejects("", events.Open, breaker.ErrOpen)
	if got := b.Status("a").State; got != events.Closed {
		t.Errorf("the breaker of a, below its limit, is %v", got)
	}
}

// What is rejected by a key's breaker must not count at the service's: its permit is returned.
func TestRejectionByTheKeyReturnsThePermitOfTheService(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 1}, 10)
	b.fail("a", 1)
	b.service.Force(events.HalfOpen, 0, "")
	for range 3 {
		b.rejects("a", events.Open, breaker.ErrOpen)
	}
	if n := b.service.Status().ProbesInFlight; n != 0 {
		t.Errorf("%d probes in flight", n)
	}
	if call := b.allow("b"); call.State != events.HalfOpen { // a probe of the service
		t.Errorf("state %v", call.State)
	} else {
		call.Success(0)
	}
	if got := b.service.State(); got != events.Closed {
		t.Errorf("the service's breaker is %v", got)
	}
}

func TestRecoveryOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, breaker.Policy{FailMax: 2, RecoveryTimeout: 10 * time.Second, ActiveProbing: true}, 10)
		b.fail("a", 2)
		time.Sleep(9 * time.Second)
		b.rejects("a", events.Open, breaker.ErrOpen)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		probe := b.allow("a")
		if probe.State != events.HalfOpen {
			t.Errorf("state %v of the probe", probe.State)
		}
		b.rejects("a", events.HalfOpen, breaker.ErrHalfOpenLimit)
		b.succeed("b")
		probe.Failure(failure, 0)
		b.rejects("a", events.Open, breaker.ErrOpen)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		b.succeed("a")
		if s := b.Status("a"); s.State != events.Closed || s.Cause != events.CauseProbesSucceeded {
			t.Errorf("status %+v", s)
		}
		var changes []string
		for _, c := range b.published {
			changes = append(changes, fmt.Sprint(c.Service, " ", c.From, ">", c.To, " ", c.Cause))
		}
		want := "svc closed>open consecutive_failures, svc open>half-open recovery_timeout, svc half-open>open probe_failed, " +
			"svc open>half-open recovery_timeout, svc half-open>closed probes_succeeded"
		if got := strings.Join(changes, ", "); got != want {
			t.Errorf("events %s\nwant   %s", got, want)
		}
	})
}

func TestSuccessesBeforeTheFirstFailureCountForRatios(t *testing.T) {
	p := breaker.Policy{Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 4, Window: time.Minute}}
	b := newBed(t, p, 10)
	for range 10 {
		b.succeed("a")
	}
	b.fail("a", 9)
	if got := b.Status("a").State; got != events.Closed {
		t.Errorf("the breaker is %v after 9 failures of 19", got)
	}
	b.fail("a", 1)
	b.rejects("a", events.Open, breaker.ErrOpen)
}

// A success that began before the first failure must end the row of failures.
func TestCallsThatBeginBeforeTheFirstFailure(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 2}, 10)
	first, second, third := b.allow("a"), b.allow("a"), b.allow("a")
	first.Failure(failure, 0)
	second.Success(0)
	third.Failure(failure, 0)
	if s := b.Status("a"); s.State != events.Closed || s.ConsecutiveFailures != 1 {
		t.Errorf("status %+v", s)
	}
	b.service.Force(events.Closed, 0, "") // so that it stays closed
	late := b.allow("c")
	b.fail("c", 2)
	late.Failure(failure, 0) // without effect: the breaker is open
	if n := b.Status("c").ConsecutiveFailures; n != 2 {
		t.Errorf("%d consecutive failures, want 2", n)
	}
}

func TestKeysWithoutABreaker(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 3}, 10)
	for _, key := range []string{"", strings.Repeat("x", MaxKeyLength+1), "\xff"} {
		b.fail(key, 1)
		if err := b.Force(key, events.Open, 0, ""); err != ErrInvalidKey {
			t.Errorf("force %q: %v", key, err)
		}
	}
	if got := b.keys(); got != "" {
		t.Errorf("keys %q", got)
	}
	b.rejects("a", events.Open, breaker.ErrOpen) // the service's: its failures have no key
}

func TestRetryAfterOfAKey(t *testing.T) {
	b := newBed(t, breaker.Policy{RetryAfter: 1, RetryAfterMax: time.Hour}, 10)
	b.allow("a").RetryAfter(time.Now().Add(time.Minute))
	b.rejects("a", events.Open, breaker.ErrOpen)
	b.succeed("b")
}

func TestShadowRejectionsAreThoseOfTheService(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 2, Mode: breaker.Shadow}, 10)
	b.fail("a", 2)
	if call := b.allow("a"); call.State != events.Open {
		t.Errorf("state %v", call.State)
	}
	if n := b.service.Status().ShadowRejections.Open; n != 1 {
		t.Errorf("%d shadow rejections", n)
	}
	b.service.Force(events.Open, 0, "")
	b.allow("a")
	if n := b.service.Status().ShadowRejections.Open; n != 2 {
		t.Errorf("%d shadow rejections, want one a call", n)
	}
}

func TestForceAndRelease(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 2}, 2)
	for _, key := range []string{"a", "b"} {
		if err := b.Force(key, events.Open, 0, "maintenance"); err != nil {
			t.Fatal(err)
		}
	}
	b.rejects("a", events.Open, breaker.ErrOpen)
	if err := b.Force("c", events.Open, 0, ""); !errors.Is(err, ErrAllForced) {
		t.Errorf("a third key of two: %v", err)
	}
	for _, key := range []string{"c", "d"} {
		b.succeed(key) // judged by the service's breaker alone
	}
	if got, want := b.keys(), "a b"; got != want {
		t.Errorf("keys %q, want %q", got, want)
	}
	b.Release("a", "done")
	b.Release("unknown", "")
	if s := b.Status("a"); s.Forced != nil || s.State != events.HalfOpen {
		t.Errorf("status %+v", s)
	}
	b.succeed("c") // in place of a
	if got, want := b.keys(), "b c"; got != want {
		t.Errorf("keys %q, want %q", got, want)
	}
	b.service.Force(events.Open, 0, "")
	b.rejects("c", events.Open, breaker.ErrOpen)
}

func TestEventsAreLimited(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 1}, 1000)
	for i := range 500 {
		b.Force(fmt.Sprint(i), events.Open, 0, "")
	}
	if n := len(b.published); n < eventBurst || n >= 500 {
		t.Errorf("%d events", n)
	}
	if c := b.Counts(); c.Transitions[events.Open] != 500 || c.Keys[events.Open] != 500 || c.Total() != 500 {
		t.Errorf("counts %+v", c)
	}
}

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
