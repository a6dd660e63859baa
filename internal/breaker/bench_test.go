package breaker

import (
	"testing"
	"time"

	"cbproxy/internal/events"
)

// benchPolicies are a policy without ratios and one with both.
var benchPolicies = []struct {
	name   string
	policy Policy
}{
	{"ratios=off", Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}},
	{"ratios=on", Policy{
		FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
		FailureRatio: 0.5, SlowCallRatio: 0.5, SlowCallDuration: time.Second, MinRequests: 20, Window: 30 * time.Second,
	}},
}

// An admission and its report should take at most 300 ns and one allocation, and with ratios at
// most 150 ns and no allocation more.
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
				call.Success(0)
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
						call.Success(0)
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
			var took time.Duration
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
