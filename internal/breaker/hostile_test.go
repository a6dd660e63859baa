package breaker

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// These tests check what docs/learning.md says in the section “Hostile clients” about a client that knows the method, and chooses the
// results and the times of its calls.

// hostileClient makes the same calls to several breakers.
type hostileClient struct {
	breakers []*Breaker
	waits    []time.Duration // between two calls; no end of an opening coincides with a call
}

func newHostileClient(policies ...Policy) *hostileClient {
	c := &hostileClient{waits: []time.Duration{0, 1377 * time.Microsecond, 1013 * time.Millisecond, 20771 * time.Millisecond, 2 * time.Minute}}
	for _, p := range policies {
		c.breakers = append(c.breakers, New("svc", p, func(events.Event) {}))
	}
	return c
}

func (c *hostileClient) close() {
	for _, b := range c.breakers {
		b.Close()
	}
}

// call makes a call to each breaker that admits it.
func (c *hostileClient) call(failed bool) {
	for _, b := range c.breakers {
		call, err := b.Allow()
		switch {
		case err != nil:
		case failed:
			call.Failure(&events.Failure{Type: events.ErrorReset}, time.Millisecond)
		default:
			call.Success(time.Millisecond)
		}
	}
}

// attack makes random calls, and calls check after each.
func (c *hostileClient) attack(r *rand.Rand, check func(what string)) {
	for range 1 + r.IntN(20) {
		calls, failEvery, wait := 1+r.IntN(60), 1+r.IntN(12), oneOf(r, c.waits)
		for i := range calls {
			c.call(i%failEvery == 0)
			check(fmt.Sprintf("after call %d of %d, of which one in %d fails, each %v", i+1, calls, failEvery, wait))
			time.Sleep(wait)
			synctest.Wait()
		}
	}
}

func oneOf[T any](r *rand.Rand, values []T) T { return values[r.IntN(len(values))] }

// randomLimits returns a policy with random other limits.
func randomLimits(r *rand.Rand) Policy {
	p := adaptivePolicy(adaptive.Enforce)
	p.FailMax = oneOf(r, []int{0, 1, 5, 20, 60})
	p.Limits = algorithm.Limits{
		Algorithm: oneOf(r, []string{"ratio", "count"}), Window: time.Minute,
		FailureRatio: oneOf(r, []float64{0, 0.3, 0.5, 0.9}), MinRequests: 20,
	}
	p.Adaptive.MinCalls = oneOf(r, []int{0, 50})
	return p
}

// withSeeds runs a test, whose clock is simulated, with some random numbers, and names those with which it fails.
func withSeeds(t *testing.T, run func(t *testing.T, r *rand.Rand)) {
	for seed := range uint64(150) {
		if t.Failed() {
			t.Fatalf("failed with the seed %d", seed-1)
		}
		synctest.Test(t, func(t *testing.T) { run(t, rand.New(rand.NewPCG(seed, 9))) })
	}
}

// Nothing that a client does, and nothing that was learnt from it, keeps the other limits from opening the breaker.
func TestLearningPreventsNoOtherOpening(t *testing.T) {
	withSeeds(t, func(t *testing.T, r *rand.Rand) {
		p := randomLimits(r)
		without := p
		without.Adaptive.Mode = adaptive.Off
		c := newHostileClient(p, without)
		defer c.close()
		opened := false
		c.attack(r, func(what string) {
			// The first opening: after it the breakers have not seen the same calls.
			if opened = opened || c.breakers[0].State() != events.Closed; !opened && c.breakers[1].State() != events.Closed {
				t.Fatalf("%s: only the breaker that learns nothing has opened", what)
			}
		})
	})
}

// In shadow mode, and after a demotion, the breaker does what it does without adaptive.
func TestShadowAndDemotedBreakersWorkAsWithoutAdaptive(t *testing.T) {
	withSeeds(t, func(t *testing.T, r *rand.Rand) {
		p, demoted := randomLimits(r), r.IntN(2) == 0
		without := p
		without.Adaptive.Mode = adaptive.Off
		if !demoted {
			p.Adaptive.Mode = adaptive.Shadow
		}
		c := newHostileClient(p, without)
		defer c.close()
		if demoted {
			demoteBySuccessfulProbes(c.breakers[0])
		}
		restored := false
		c.attack(r, func(what string) {
			if restored = restored || demoted && !c.breakers[0].Baseline().Demoted; restored {
				return // another limit has opened the breaker after evidence, and so has ended the demotion
			}
			got, want := c.breakers[0].Status(), c.breakers[1].Status()
			if got.State != want.State || got.RetryAt.Sub(want.RetryAt).Abs() > time.Microsecond || got.State != events.Closed && got.Cause != want.Cause {
				t.Fatalf("%s: %v by %s until %v, without adaptive %v by %s until %v", what,
					got.State, got.Cause, got.RetryAt, want.State, want.Cause, want.RetryAt)
			}
		})
	})
}

// demoteBySuccessfulProbes makes b learn that its upstream is healthy, and then provokes openings that probes refute. It returns the
// number of failures and the time that the provocation took. Other limits of b are off meanwhile.
func demoteBySuccessfulProbes(b *Breaker) (failures int, took time.Duration) {
	p := b.Policy()
	other := p
	other.FailMax, other.FailureRatio = 0, 0
	b.SetPolicy(other)
	c := &hostileClient{breakers: []*Breaker{b}}
	for range 400 {
		c.call(false)
		time.Sleep(10 * time.Second)
	}
	begin := time.Now()
	for !b.Baseline().Demoted {
		for b.State() == events.Closed {
			c.call(true)
			failures++
		}
		time.Sleep(time.Until(b.RetryAt()) + 2*time.Nanosecond)
		synctest.Wait()
		c.call(false) // the probe
	}
	took = time.Since(begin)
	time.Sleep(2 * time.Minute) // the last opening no longer counts as a recent one
	b.SetPolicy(p)
	return failures, took
}

// A demotion takes four openings, each by at least six failures, with a probe that succeeds after each recovery timeout.
func TestWhatADemotionTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
		failures, took := demoteBySuccessfulProbes(b.Breaker)
		if failures != 24 || took.Round(time.Second) != 4*b.Policy().RecoveryTimeout {
			t.Errorf("%d failures in %v", failures, took)
		}
		if s := b.Baseline(); s.Openings.Refuted != 4 || s.Mode != "shadow" {
			t.Errorf("%+v", s)
		}
		b.call(19, false, time.Millisecond)
		b.want(events.Closed)
		b.call(1, false, time.Millisecond)
		if b.want(events.Open); b.change.Load().Cause != events.CauseConsecutiveFailures {
			t.Errorf("%+v", b.change.Load())
		}
	})
}

// Neither new calls nor those that were admitted before end an opening by the evidence, or change what was learnt.
func TestClientsCannotEndAnAdaptiveOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
		b.warmUp()
		var inFlight []Call
		for range 100 {
			call, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			inFlight = append(inFlight, call)
		}
		b.fault()
		end, before := b.RetryAt(), b.Baseline()
		for _, call := range inFlight {
			if _, err := b.Allow(); err != ErrOpen {
				t.Fatalf("got %v", err)
			}
			call.Success(time.Millisecond)
			time.Sleep(time.Millisecond)
		}
		if after := b.Baseline(); b.State() != events.Open || !b.RetryAt().Equal(end) || after != before {
			t.Errorf("%v until %v, want until %v; %+v, before %+v", b.State(), b.RetryAt(), end, after, before)
		}
	})
}

// What is kept for a service does not grow with the calls, their durations or the time.
func TestMemoryOfLearningIsConstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const services = 25
		policies := make([]Policy, services)
		for i := range policies {
			policies[i] = adaptivePolicy(adaptive.Enforce)
		}
		c := newHostileClient(policies...)
		defer c.close()
		r, calls := rand.New(rand.NewPCG(1, 1)), 0
		// use makes n calls to each service within days days, and returns the bytes that are in use for a service afterwards.
		use := func(n, days int) int {
			for range n {
				took := time.Duration(math.Exp(r.Float64()*25)) * time.Nanosecond // up to a minute
				for _, b := range c.breakers {
					if call, err := b.Allow(); err == nil && calls%100 == 0 {
						call.Failure(&events.Failure{Type: events.ErrorReset}, took)
					} else if err == nil {
						call.Success(took)
					}
				}
				calls++
				time.Sleep(time.Duration(days) * 24 * time.Hour / time.Duration(n))
			}
			for _, b := range c.breakers {
				if b.Baseline().Calls == 0 {
					t.Fatal("nothing was learnt")
				}
			}
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc) / services
		}
		first, last := use(3000, 2), use(10_000, 90) // after two days there are durations of all hours that count
		t.Logf("%d bytes a service after two days, %d after 92", first, last)
		if last > first+1024 {
			t.Errorf("%d bytes a service after two days, %d after 92", first, last)
		}
	})
}
