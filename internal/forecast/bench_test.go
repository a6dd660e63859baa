package forecast_test

import (
	"fmt"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/forecast"
)

// BenchmarkObserve measures a step of 100 services, which the proxy makes every 5 seconds: healthy, and on their way to open.
func BenchmarkObserve(b *testing.B) {
	for name, failures := range map[string]func(step int) uint64{
		"healthy": func(int) uint64 { return 1 }, "declining": func(step int) uint64 { return uint64(min(step, 30)) },
	} {
		b.Run(name, func(b *testing.B) {
			br := breaker.New("svc", breaker.Policy{
				FailMax: 5, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
				Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 20, Window: 30 * time.Second},
			}, func(events.Event) {})
			defer br.Close()
			f, all := forecast.New(), map[string]forecast.Observation{}
			step := func(i int) {
				for s := range 100 {
					o := forecast.Observation{Step: calls(100-failures(i), failures(i)), Breaker: br}
					for j, w := range []uint64{12, 60, 720} {
						o.Windows[j] = forecast.Counts{Success: w * o.Success, Failure: w * o.Failure}
					}
					all[fmt.Sprint("svc", s)] = o
				}
				f.Observe(all)
			}
			for i := range 31 {
				step(i)
			}
			for b.Loop() {
				step(31)
			}
		})
	}
}
