package keyed

import (
	"fmt"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// A call of a key without recent failures should take at most 200 ns more than one of the service's breaker alone. One of a key with a
// failure in the window asks a second breaker, which takes as long as the first. Compare those of one run.
func BenchmarkAllowAndSuccess(b *testing.B) {
	failMax := breaker.Policy{FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, ByKey: true}
	ratio := failMax
	ratio.Limits = algorithm.Limits{FailureRatio: 0.5, MinRequests: 20, Window: 30 * time.Second}
	for _, p := range []struct {
		name   string
		policy breaker.Policy
	}{{"fail_max", failMax}, {"ratio", ratio}} {
		service := breaker.New("svc", p.policy, func(events.Event) {})
		b.Run(p.name+"/service", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call, _ := service.Allow()
				call.Success(0)
			}
		})
		keys := New(service, func(events.Event) {})
		keys.SetPolicy(p.policy, 100)
		for i := range 100 {
			key := fmt.Sprint("tenant-", i)
			call, _ := keys.Allow(key, time.Now(), true)
			if i == 1 {
				call.Failure(&events.Failure{}, 0) // so that it has a breaker
			} else {
				call.Success(0)
			}
		}
		now := time.Now()
		for i, name := range []string{"key without failures", "key with a failure"} {
			key := fmt.Sprint("tenant-", i)
			b.Run(p.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					call, _ := keys.Allow(key, now, true)
					call.Success(0)
				}
			})
		}
		b.Run(p.name+"/new keys", func(b *testing.B) {
			made := make([]string, 1000)
			for i := range made {
				made[i] = fmt.Sprint("made-up-", i)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				call, _ := keys.Allow(made[i%len(made)], now, true)
				call.Success(0)
				i++
			}
		})
	}
}
