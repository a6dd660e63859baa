package breaker

import (
	"testing"
	"time"

	"cbproxy/internal/events"
)

// A decision and its report together: the target is 300 ns and one allocation.
func BenchmarkAllowAndSuccess(b *testing.B) {
	br := New("svc", Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}, func(events.Event) {})
	b.ReportAllocs()
	for b.Loop() {
		call, err := br.Allow()
		if err != nil {
			b.Fatal(err)
		}
		call.Success(0)
	}
}

func BenchmarkAllowAndSuccessParallel(b *testing.B) {
	br := New("svc", Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}, func(events.Event) {})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if call, err := br.Allow(); err == nil {
				call.Success(0)
			}
		}
	})
}

func BenchmarkAllowWhileOpen(b *testing.B) {
	br := New("svc", Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}, func(events.Event) {})
	br.Force(events.Open, 0, "")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.Allow(); err == nil {
			b.Fatal("let a call through")
		}
	}
}

// Decisions allocate in a known way, so that their bound can be a test.
func TestDecisionAndReportAllocateAtMostOnce(t *testing.T) {
	br := New("svc", Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1}, func(events.Event) {})
	n := testing.AllocsPerRun(1000, func() {
		call, err := br.Allow()
		if err != nil {
			t.Fatal(err)
		}
		call.Success(0)
	})
	if n > 1 {
		t.Errorf("a decision and its report allocate %v times, want at most 1", n)
	}
}
