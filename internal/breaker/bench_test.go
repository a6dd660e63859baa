package breaker

import (
	"testing"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// benchPolicies are a policy without ratios, one with both, and one of each other algorithm. None of them opens by a slow call or
// rejects one.
var benchPolicies = []struct {
	name   string
	policy Policy
}{
	{"ratios=off", Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}},
	{"adaptive", Policy{
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
		Adaptive: adaptive.Options{Mode: adaptive.Enforce, FalseAlarm: 1e-8, MinRatio: 0.2, Floor: 0.01, Cap: 0.1, WarmupCalls: 200},
	}},
	{"ratios=on", Policy{
		Limits: algorithm.Limits{
			FailureRatio: 0.5, SlowCallRatio: 0.5, SlowCallDuration: time.Second, MinRequests: 20, Window: 30 * time.Second,
		},
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}},
	{"count", Policy{
		Limits: algorithm.Limits{
			Algorithm: "count", Options: &algorithm.CountOptions{Calls: 100},
			FailureRatio: 0.5, SlowCallRatio: 0.5, SlowCallDuration: time.Second, MinRequests: 20,
		},
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}},
	{"budget", Policy{
		Limits: algorithm.Limits{
			Algorithm: "budget", Options: &algorithm.BudgetOptions{Objective: 0.995, BurnRate: 14.4, Short: time.Minute, Long: 10 * time.Minute},
			MinRequests: 20,
		},
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}},
	{"throttle", Policy{
		Limits: algorithm.Limits{
			Algorithm: "throttle", Options: &algorithm.ThrottleOptions{SuccessRatio: 0.95, Aggression: 1.5, MaxRejection: 0.8, MinRPS: 1},
			Window: 30 * time.Second,
		},
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}},
	{"expression", Policy{
		Limits: algorithm.Limits{
			Algorithm: "expression", Options: &algorithm.ExpressionOptions{OpenWhen: "requests >= 20 && failure_ratio > 0.3"},
			Window: 30 * time.Second,
		},
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}},
	{"expression with percentiles", Policy{
		Limits: algorithm.Limits{
			Algorithm: "expression", Options: &algorithm.ExpressionOptions{OpenWhen: "requests >= 20 && (failure_ratio > 0.3 || slow_ratio > 1 || p50 > 1 && p95 > 70 && p99 > 70)"},
			Window: 30 * time.Second, SlowCallDuration: time.Second,
		},
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}},
}

// An admission and its report should take at most 300 ns and one allocation, with an algorithm at most 150 ns and no allocation more, and
// with adaptive at most 80 ns more on the average of many calls: the first thousand of an hour take longer.
func BenchmarkAllowAndSuccess(b *testing.B) {
	for _, p := range benchPolicies {
		b.Run(p.name, func(b *testing.B) {
			br := New("svc", p.policy, func(events.Event) {})
			b.ReportAllocs()
			for b.Loop() {
				call, err := br.Allow()
				if err != nil {
					b.Fatal(err)
				}
				call.Success(5 * time.Millisecond)
			}
		})
	}
}

func BenchmarkAllowAndSuccessParallel(b *testing.B) {
	for _, p := range benchPolicies {
		b.Run(p.name, func(b *testing.B) {
			br := New("svc", p.policy, func(events.Event) {})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if call, err := br.Allow(); err == nil {
						call.Success(5 * time.Millisecond)
					}
				}
			})
		})
	}
}

func BenchmarkAllowWhileOpen(b *testing.B) {
	br := New("svc", benchPolicies[0].policy, func(events.Event) {})
	br.Force(events.Open, 0, "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.Allow(); err == nil {
			b.Fatal("admitted a call")
		}
	}
}

// The number of allocations is deterministic, so its limit is a test.
func TestAdmissionAndReportAllocateAtMostOnce(t *testing.T) {
	for _, p := range benchPolicies {
		for _, slow := range []bool{false, true} {
			policy := p.policy
			took := 5 * time.Millisecond
			if slow && policy.SlowCallRatio > 0 {
				policy.SlowCallRatio, took = 2, time.Minute // a ratio that is never reached
			}
			br := New("svc", policy, func(events.Event) {})
			n := testing.AllocsPerRun(1000, func() {
				call, err := br.Allow()
				if err != nil {
					t.Fatal(err)
				}
				call.Success(took)
			})
			if n > 1 {
				t.Errorf("%s, slow %v: an admission and its report allocate %v times, want at most 1", p.name, slow, n)
			}
		}
	}
}

// throttledBreaker returns a breaker that rejects nearly all calls.
func throttledBreaker() *Breaker {
	br := New("svc", Policy{
		Limits: algorithm.Limits{
			Algorithm: "throttle", Options: &algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 1},
			Window: time.Hour,
		},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}, func(events.Event) {})
	for range 10_000 {
		call, _ := br.AllowActiveProbe() // is not throttled
		call.Failure(&events.Failure{}, 0)
	}
	return br
}

func BenchmarkAllowWhileThrottled(b *testing.B) {
	br := throttledBreaker()
	b.ReportAllocs()
	for b.Loop() {
		if call, err := br.Allow(); err == nil {
			call.Failure(&events.Failure{}, 0)
		}
	}
}

// recoveringBreaker returns a breaker that lets a tenth of the calls through.
func recoveringBreaker() *Breaker {
	p := benchPolicies[0].policy
	p.RecoveryRamp = 24 * time.Hour
	br := New("svc", p, func(events.Event) {})
	br.Force(events.HalfOpen, 0, "")
	call, _ := br.Allow()
	call.Success(0)
	return br
}

func BenchmarkAllowWhileRecovering(b *testing.B) {
	br := recoveringBreaker()
	b.ReportAllocs()
	for b.Loop() {
		if call, err := br.Allow(); err == nil {
			call.Success(0)
		}
	}
}

// A call that is rejected in the closed state allocates nothing. Few are admitted, so the average is rounded down to none.
func TestRejectionInTheClosedStateAllocatesNothing(t *testing.T) {
	for want, br := range map[error]*Breaker{ErrThrottled: throttledBreaker(), ErrRecovering: recoveringBreaker()} {
		rejected := 0
		n := testing.AllocsPerRun(1000, func() {
			call, err := br.Allow()
			if err == want {
				rejected++
			}
			call.Cancel()
		})
		if n > 0 || rejected < 800 {
			t.Errorf("%v: %d of 1001 calls are rejected, a call allocates %v times", want, rejected, n)
		}
	}
}

// A call that is admitted in the mode Off allocates nothing.
func TestOffAllocatesNothing(t *testing.T) {
	br := New("svc", Policy{Mode: Off, FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}, func(events.Event) {})
	n := testing.AllocsPerRun(1000, func() {
		call, _ := br.Allow()
		call.Success(0)
	})
	if n > 0 {
		t.Errorf("an admission and its report allocate %v times, want none", n)
	}
}
