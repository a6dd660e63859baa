package keyed

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func TestLeastRecentlyUsedKeyGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, breaker.Policy{FailMax: 5}, 3)
		for _, key := range []string{"a", "b", "c", "a", "d"} {
			b.succeed(key)
			time.Sleep(time.Millisecond)
		}
		if got, want := b.keys(), "d a c"; got != want {
			t.Errorf("keys %q, want %q", got, want)
		}
		if n := b.Counts().Evictions; n != 1 {
			t.Errorf("%d evictions", n)
		}
		b.SetPolicy(b.policy, 1)
		if got, want := b.keys(), "d"; got != want {
			t.Errorf("keys %q after a lower limit, want %q", got, want)
		}
	})
}

// The header section that a key was a part of must not stay in memory.
func TestKeysAreCopied(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 5}, 3)
	key := strings.Repeat("x", 64<<10)[:5]
	b.succeed(key)
	if kept := b.List()[0].Key; kept != key || unsafe.StringData(kept) == unsafe.StringData(key) {
		t.Errorf("the key %q is not a copy", kept)
	}
}

func TestNewKeysDoNotEndOpenPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, breaker.Policy{FailMax: 2, RecoveryTimeout: time.Minute}, 3)
		b.fail("a", 2)
		for i := range 100 {
			b.succeed(fmt.Sprint(i))
		}
		b.rejects("a", events.Open, breaker.ErrOpen)
		time.Sleep(time.Minute + time.Millisecond)
		synctest.Wait()
		for i := range 3 { // the open period is over
			b.succeed(fmt.Sprint(i))
		}
		if got, want := b.Status("a").State, events.Closed; got != want {
			t.Errorf("state %v, want a new breaker", got)
		}
	})
}

func TestIfAllAreOpenTheLeastRecentlyUsedGoes(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 1}, 2)
	b.fail("a", 1)
	b.service.Force(events.Closed, 0, "") // so that it does not open
	b.fail("b", 1)
	b.fail("c", 1)
	b.succeed("a") // anew; b goes
	b.succeed("x") // a goes, not c, which is open
	b.rejects("c", events.Open, breaker.ErrOpen)
	if got, want := b.keys(), "c x"; got != want {
		t.Errorf("keys %q, want %q", got, want)
	}
}

func TestCallsInFlightOfAnEvictedKey(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 1}, 1)
	first := b.allow("a")
	b.fail("b", 0)
	second := b.allow("b")
	b.succeed("c")
	first.Failure(failure, 0)
	second.Failure(failure, 0)
	if got, want := b.keys(), "c"; got != want {
		t.Errorf("keys %q, want %q", got, want)
	}
	if n := b.service.Status().ConsecutiveFailures; n != 2 {
		t.Errorf("the service has counted %d failures, want 2", n)
	}
}

func TestCloseForgetsTheKeys(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 2}, 3)
	b.fail("a", 2)
	b.Close()
	b.succeed("a")
	if got := b.keys(); got != "" {
		t.Errorf("keys %q", got)
	}
	if err := b.Force("a", events.Open, 0, ""); err != ErrClosed {
		t.Errorf("force: %v", err)
	}
}

func TestNewPolicyAppliesToKeys(t *testing.T) {
	b := newBed(t, breaker.Policy{FailMax: 3}, 3)
	b.fail("a", 1)
	p := b.policy
	p.FailMax = 2
	b.SetPolicy(p, 3)
	b.fail("a", 1)
	b.rejects("a", events.Open, breaker.ErrOpen)
	p.Mode = breaker.Off
	b.service.SetPolicy(p)
	b.SetPolicy(p, 3)
	b.succeed("a")
}

// TestConcurrentUse is for the race detector, and checks that the number of keys is bounded and that no permit is lost.
func TestConcurrentUse(t *testing.T) {
	ratio := breaker.Policy{FailMax: 3, RecoveryTimeout: time.Millisecond}
	ratio.Limits = algorithm.Limits{FailureRatio: 0.5, MinRequests: 10, Window: time.Second}
	const limit = 10
	b := newBed(t, breaker.Policy{FailMax: 3, RecoveryTimeout: time.Millisecond}, limit)
	var work sync.WaitGroup
	for worker := range 8 {
		work.Go(func() {
			for i := range 1000 {
				key := fmt.Sprint((i * (worker + 1)) % 40)
				if call, err := b.Allow(key, time.Now(), i%2 == 0); err == nil {
					call = call.WithRevocablePermit(func() time.Duration { return time.Second })
					switch i % 5 {
					case 0, 1:
						call.Failure(failure, 0)
					case 2:
						call.Cancel()
					case 3:
						call.Abandon(time.Second)
					default:
						call.Success(0)
					}
				}
			}
		})
	}
	work.Go(func() {
		for i := range 200 {
			switch i % 4 {
			case 0:
				b.SetPolicy(ratio, limit-i%3)
			case 1:
				_ = b.Force("forced", events.Open, time.Millisecond, "")
			case 2:
				b.Release("forced", "")
			default:
				b.SetPolicy(b.policy, limit)
			}
			if n := len(b.List()); n > limit {
				t.Errorf("%d keys", n)
			}
			b.Counts()
			b.IsOpen("1")
		}
	})
	work.Wait()
	b.service.Force(events.HalfOpen, 0, "")
	if n := b.service.Status().ProbesInFlight; n != 0 {
		t.Errorf("%d probes in flight", n)
	}
}
