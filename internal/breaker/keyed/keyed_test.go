package keyed

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// A tenant with most of the traffic, whose calls all fail, opens its own breaker. The others are never rejected.
func TestATenantWithMostOfTheTraffic(t *testing.T) {
	b := newBed(t, breaker.Policy{Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 20, Window: time.Minute}}, 10)
	rejected := 0
	for i := range 1000 {
		if i%10 == 9 {
			b.succeed([]string{"b", "c", ""}[i%3])
			continue
		}
		if call, err := b.Allow("a", time.Now(), true); err == nil {
			call.Failure(failure, 0)
		} else {
			rejected++
		}
	}
	if s := b.service.Status(); s.State != events.Closed || rejected != 880 {
		t.Errorf("the service's breaker is %v, %d calls of a are rejected", s.State, rejected)
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
