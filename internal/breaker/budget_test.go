package breaker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// budgetPolicy is a policy whose limit is a failure ratio of 5 * (1 - 0.9) = 0.5.
func budgetPolicy() Policy {
	return Policy{
		Limits: algorithm.Limits{
			Algorithm: "budget", Options: &algorithm.BudgetOptions{Objective: 0.9, BurnRate: 5, Short: time.Minute, Long: 10 * time.Minute},
			SlowCallRatio: 0.5, SlowCallDuration: time.Second, MinRequests: 4,
		},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

func TestBudgetOpensByBothWindows(t *testing.T) {
	type step struct {
		wait    time.Duration
		results string
	}
	const outOfShort = 2 * time.Minute
	tests := []struct {
		name               string
		change             func(*algorithm.BudgetOptions)
		steps              []step
		opensAt            int // the number of the call of the last step that opens the breaker; 0 is none
		requests, failures int // in the short window at the opening
	}{
		// Short and long: 3 are fewer than 4; 4/4 failed is a burn rate of 1 / 0.1 = 10.
		{"a total failure", nil, []step{{0, "ffffff"}}, 4, 4, 4},
		// 3/4 failed is a burn rate of 7.5.
		{"a success reaches min_requests", nil, []step{{0, "fffs"}}, 4, 4, 3},
		// 1/4 to 3/6 failed; 3/6 is a burn rate of exactly 5.
		{"exactly the burn rate", nil, []step{{0, "sssfff"}}, 6, 6, 3},
		// In floating point 1 - 0.99 is more than 0.01, but 1/10 failed is a burn rate of 10.
		{"a limit that is not exact", func(o *algorithm.BudgetOptions) { o.Objective, o.BurnRate = 0.99, 10 }, []step{{0, "sssssssssf"}}, 10, 10, 1},
		// Short: 19/19 failed. Long: 19/39 failed, a burn rate of 4.9. With one failure more: 20/40, 5.
		{"the long window waits", nil, []step{{0, strings.Repeat("s", 20)}, {outOfShort, strings.Repeat("f", 25)}}, 20, 20, 20},
		// 3 failures in a short window are fewer than 4. At the end, long: 9/13 failed, a burn rate of 6.9; short: 0/4.
		{"the failure is over", nil, []step{{0, "fff"}, {outOfShort, "fff"}, {outOfShort, "fff"}, {outOfShort, "ssss"}}, 0, 0, 0},
		// The same, then short: 4/8 failed, 5; long: 13/17, 7.6. With one failure less, short: 3/7, 4.3.
		{"the failure is back", nil, []step{
			{0, "fff"}, {outOfShort, "fff"}, {outOfShort, "fff"}, {outOfShort, "ssss"}, {0, "fffff"},
		}, 4, 8, 4},
		// The successes are older than the long window: 4/4 failed.
		{"old calls are dropped", nil, []step{{0, strings.Repeat("s", 100)}, {10 * time.Minute, "ffff"}}, 4, 4, 4},
		// As above, but the successes are a nanosecond younger: 4/104 failed.
		{"the edge of the long window", nil, []step{{0, strings.Repeat("s", 100)}, {10*time.Minute - 1, "ffff"}}, 0, 0, 0},
		// Slow calls are successes: 0/10 failed. Abandoned and cancelled calls are none: 4/8 failed, not 4/14.
		{"slow and abandoned calls", nil, []step{{0, "SSSSaaacccffff"}}, 14, 8, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := budgetPolicy()
				if test.change != nil {
					test.change(p.Options.(*algorithm.BudgetOptions))
				}
				w := newTestBreaker(t, p)
				calls := 0
				for _, step := range test.steps {
					w.want(events.Closed)
					time.Sleep(step.wait)
					calls = w.report(step.results, 0)
				}
				if test.opensAt == 0 {
					w.want(events.Closed)
					return
				}
				w.want(events.Open)
				c := w.change.Load()
				if calls != test.opensAt || c.Cause != events.CauseBurnRate {
					t.Errorf("opened at call %d, %s; want call %d, %s", calls, c.Cause, test.opensAt, events.CauseBurnRate)
				}
				if n := c.Counts; int(n.Requests) != test.requests || int(n.Failures) != test.failures {
					t.Errorf("counts %+v, want %d calls, %d failures", n, test.requests, test.failures)
				}
			})
		})
	}
}
