package breaker

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/expression"
)

// Under concurrent calls and changes of state, each event starts from the state in which the event
// before ended.
func TestConcurrentCallsPublishConsistentTransitions(t *testing.T) {
	var bus events.Bus
	sub := bus.Subscribe(1 << 20)
	b := New("svc", Policy{FailMax: 3, RecoveryTimeout: time.Millisecond, HalfOpenRequests: 2}, bus.Publish)
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for range 3000 {
				call, err := b.Allow()
				if err != nil {
					time.Sleep(time.Microsecond) // let the timer fire
					continue
				}
				switch random.IntN(10) {
				case 0:
					call.Cancel()
				case 1, 2, 3, 4, 5:
					call.Failure(&events.Failure{Type: events.ErrorStatus}, 0)
				default:
					call.Success(0)
				}
			}
		})
	}
	workers.Go(func() {
		for i := range 300 {
			switch i % 5 {
			case 0:
				b.Force(events.Open, time.Millisecond, "")
			case 1:
				b.Force(events.HalfOpen, 0, "")
			case 2:
				b.Force(events.Closed, time.Millisecond, "")
			case 3:
				b.Release("")
			case 4:
				b.SetPolicy(Policy{FailMax: 1 + i%3, RecoveryTimeout: time.Duration(1+i%2) * time.Millisecond, HalfOpenRequests: 1 + i%2})
			}
			_ = b.Status()
		}
	})
	workers.Wait()
	b.Force(events.Closed, 0, "") // without end, so that no timer causes a transition after the last event
	b.Close()
	sub.Close()
	state, changes := events.Closed, [len(events.States)]uint64{}
	for {
		e, missed, err := sub.Next(t.Context())
		if err != nil {
			break
		}
		if missed > 0 {
			t.Fatalf("missed %d events", missed)
		}
		if c, ok := e.(events.StateChanged); ok {
			if c.From != state || c.To == c.From {
				t.Fatalf("%v to %v (%s) while the state was %v", c.From, c.To, c.Cause, state)
			}
			state = c.To
			changes[c.To]++
		}
	}
	for _, s := range events.States {
		if b.Status().Transitions[s] != changes[s] {
			t.Errorf("%d transitions to %v are counted, %d were published", b.Status().Transitions[s], s, changes[s])
		}
	}
	if changes[events.Open] < 10 {
		t.Errorf("opened only %d times", changes[events.Open])
	}
}

// randomAlgorithm sets an algorithm and random options.
func randomAlgorithm(r *rand.Rand, p *Policy) {
	window := func() time.Duration { return time.Duration(1 + r.Int64N(int64(5*time.Millisecond))) }
	switch r.IntN(5) {
	case 0: // ratio
	case 1:
		p.Algorithm, p.Options = "count", &algorithm.CountOptions{Calls: 1 + r.IntN(100)}
	case 2:
		o := &algorithm.BudgetOptions{Objective: 0.1 + 0.8*r.Float64(), Short: window()}
		o.BurnRate, o.Long = r.Float64()/(1-o.Objective), o.Short+window()
		p.Algorithm, p.Options = "budget", o
	case 3:
		p.Algorithm = "throttle"
		p.Options = &algorithm.ThrottleOptions{
			SuccessRatio: 0.1 + 0.9*r.Float64(), Aggression: 0.5 + r.Float64(), MaxRejection: r.Float64(), MinRPS: r.Float64(),
		}
	case 4:
		expressions := []expression.OpenWhenText{
			"requests > 20 && failure_ratio > 0.6", "p95 < 0 || resets > 50", "consecutive_failures > 20", "slow_ratio > 0.9 || failures % connects == 7",
		}
		p.Algorithm, p.Options = "expression", &algorithm.ExpressionOptions{OpenWhen: expressions[r.IntN(len(expressions))]}
	}
}

// While policies and algorithms change under load, the sums of each algorithm stay equal to what it has counted, and the breaker
// recovers.
func TestAlgorithmsStayConsistentUnderPolicyChanges(t *testing.T) {
	policy := func(r *rand.Rand) Policy {
		p := Policy{
			Limits: algorithm.Limits{
				FailureRatio:  r.Float64() * float64(r.IntN(2)),
				SlowCallRatio: r.Float64() * float64(r.IntN(2)), SlowCallDuration: time.Duration(r.IntN(10)),
				MinRequests: r.IntN(50), Window: time.Duration(1 + r.Int64N(int64(5*time.Millisecond))),
			},
			Mode: Mode(r.IntN(3)), FailMax: r.IntN(30), RecoveryTimeout: time.Duration(1 + r.IntN(100_000)),
			RecoveryBackoff:  Backoff{Multiplier: 1 + r.Float64(), Max: time.Millisecond, Jitter: r.Float64()},
			HalfOpenRequests: 1 + r.IntN(3), ActiveProbing: r.IntN(4) == 0,
			RecoveryRamp: time.Duration(r.IntN(2_000_000)), RetryAfter: r.IntN(3), RetryAfterMax: time.Duration(1 + r.IntN(100_000)),
			Adaptive: adaptive.Options{
				Mode: adaptive.Mode(r.IntN(3)), FalseAlarm: 1e-3, MinRatio: r.Float64(), Floor: 0.01, Cap: 1, WarmupCalls: r.IntN(20),
			},
			SlowCall: adaptive.SlowCall{Default: time.Duration(1 + r.IntN(10)), Max: time.Duration(10 * r.IntN(2))},
		}
		randomAlgorithm(r, &p)
		return p
	}
	b := New("svc", policy(rand.New(rand.NewPCG(1, 1))), func(events.Event) {})
	defer b.Close()
	var workers, reloader sync.WaitGroup
	var reloads atomic.Int64
	for w := range 8 {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(w)))
			for i := 0; i < 5000 || reloads.Load() < 500 || b.Status().Transitions[events.Open] < 10; i++ {
				allow := b.Allow
				if i%16 == 0 {
					allow = b.AllowActiveProbe
				}
				call, _ := allow() // a report on a rejected call must do no harm
				switch took := time.Duration(r.IntN(20)); r.IntN(10) {
				case 0, 1, 2:
					call.Failure(&events.Failure{Type: events.ErrorTypes[r.IntN(len(events.ErrorTypes))]}, took)
				case 3, 4, 5:
					call.Success(took)
				case 6:
					call.RetryAfter(time.Now().Add(took * time.Microsecond))
				case 7:
					call.Abandon(took)
				default:
					call.Cancel()
				}
			}
		})
	}
	done := make(chan struct{})
	reloader.Go(func() {
		r := rand.New(rand.NewPCG(3, 3))
		errors := uint64(0)
		for {
			select {
			case <-done:
				return
			default:
			}
			b.SetPolicy(policy(r))
			reloads.Add(1)
			checkCounts(t, b.current.Load())
			if s := b.Status(); s.AdmittedRatio < leastAdmittedRatio || s.AdmittedRatio > 1 || s.RejectionRatio < 0 || s.RejectionRatio > 1 {
				t.Errorf("admitted ratio %v, rejection ratio %v", s.AdmittedRatio, s.RejectionRatio)
			} else if s.ExpressionErrors < errors {
				t.Errorf("%d errors of expressions, before there were %d", s.ExpressionErrors, errors)
			} else {
				errors = s.ExpressionErrors
			}
		}
	})
	workers.Wait()
	close(done)
	reloader.Wait()
	checkCounts(t, b.current.Load())

	b.SetPolicy(Policy{
		Limits: algorithm.Limits{
			FailureRatio: 1, SlowCallRatio: 1, SlowCallDuration: time.Hour, MinRequests: 1, Window: time.Minute,
		},
		RecoveryTimeout: time.Millisecond, HalfOpenRequests: 1,
	})
	for b.State() != events.Closed { // the test's own deadline ends it
		call, _ := b.Allow()
		call.Success(0)
	}
}

// checkCounts fails the test if the counts do not fit together, as they would if calls had been counted at the same time.
func checkCounts(t *testing.T, p *phase) {
	if p.engine == nil {
		return // nothing is counted while the breaker is open
	}
	if c := p.engine.decider.counts(); c.Successes+c.Failures != c.Requests || c.Failures > c.Requests || c.Slow > c.Requests {
		t.Errorf("the algorithm has counted %+v", c)
	}
}

// Without any call, the state changes and the change is published.
func TestOpeningEndsWithoutCalls(t *testing.T) {
	var bus events.Bus
	sub := bus.Subscribe(10)
	defer sub.Close()
	b := New("svc", Policy{FailMax: 1, RecoveryTimeout: 5 * time.Millisecond, HalfOpenRequests: 1}, bus.Publish)
	defer b.Close()
	call, err := b.Allow()
	if err != nil {
		t.Fatal(err)
	}
	call.Failure(&events.Failure{Type: events.ErrorTimeout, Detail: "slow"}, 0)
	for _, want := range []events.State{events.Open, events.HalfOpen} {
		e, _, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := e.(events.StateChanged)
		if c.To != want {
			t.Fatalf("changed to %v, want %v", c.To, want)
		}
		if want == events.Open && (c.Failure == nil || c.Failure.Detail != "slow" || c.Counts.ConsecutiveFailures != 1 || c.Until.IsZero()) {
			t.Errorf("the event of the opening lacks its cause: %+v", c)
		}
	}
}

// A call that is rejected by an open breaker always has the end of the open period in RetryAt.
func TestRejectedCallHasRetryAt(t *testing.T) {
	for range 2000 {
		b := New("svc", Policy{FailMax: 1, RecoveryTimeout: time.Hour, HalfOpenRequests: 1}, func(events.Event) {})
		call, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				for {
					rejected, err := b.Allow()
					if err == nil {
						rejected.Cancel()
						continue
					}
					if time.Until(rejected.RetryAt) < time.Minute || b.RetryAt().IsZero() || b.State() != events.Open {
						t.Errorf("rejected until %v, %v until %v", rejected.RetryAt, b.State(), b.RetryAt())
					}
					return
				}
			})
		}
		call.Failure(&events.Failure{Type: events.ErrorStatus}, 0)
		callers.Wait()
		b.Close()
		if t.Failed() {
			return
		}
	}
}
