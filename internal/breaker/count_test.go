package breaker

import (
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func countPolicy(calls int) Policy {
	return Policy{
		Limits: algorithm.Limits{
			Algorithm: "count", Options: &algorithm.CountOptions{Calls: calls},
			FailureRatio: 0.5, SlowCallDuration: 5 * time.Second, MinRequests: 1,
		},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

// report makes one call for each letter of results, until the breaker opens. It returns the number of calls.
//
//	s, f: a success, a failure
//	S, F: the same, slow
//	a: a slow call that its client cancelled
//	c: a call that counts neither way
func (w *testBreaker) report(results string, wait time.Duration) (calls int) {
	w.t.Helper()
	for _, result := range results {
		time.Sleep(wait)
		call, err := w.Allow()
		if err != nil {
			return calls
		}
		calls++
		switch result {
		case 's':
			call.Success(0)
		case 'f':
			call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
		case 'S':
			call.Success(time.Hour)
		case 'F':
			call.Failure(&events.Failure{Type: events.ErrorReset}, time.Hour)
		case 'a':
			call.Abandon(time.Hour)
		case 'c':
			call.Cancel()
		default:
			w.t.Fatalf("unknown result %q", result)
		}
	}
	return calls
}

func TestCountOpensByTheLastCalls(t *testing.T) {
	tests := []struct {
		name              string
		calls, min        int
		failures, slow    float64
		results           string
		opensAt           int // the number of the call that opens the breaker; 0 is none
		cause             events.Cause
		requests, f, slws uint32 // the counts at the opening
	}{
		// 1/1 and 2/2 are above the limit, but fewer than 3 calls.
		{"too few calls", 5, 3, 0.5, 0, "ff", 0, "", 0, 0, 0},
		// The third call is a success: 2/3.
		{"a success reaches min_requests", 5, 3, 0.5, 0, "ffs", 3, events.CauseFailureRatio, 3, 2, 0},
		// The last 4 calls: ffss 2/4, fsss 1/4, sssf 1/4, ssff 2/4, sfff 3/4.
		{"older calls are dropped", 4, 4, 0.75, 0, "ffsssfff", 8, events.CauseFailureRatio, 4, 3, 0},
		// The last 10 calls: 2/10 after 10, 11 and 12 calls, as each new failure replaces an old one at first; then 3/10.
		{"exactly the ratio", 10, 10, 0.3, 0, "ffssssssssfff", 13, events.CauseFailureRatio, 10, 3, 0},
		// The last call alone: 0/1, 0/1, 1/1.
		{"one call", 1, 1, 1, 0, "ssf", 3, events.CauseFailureRatio, 1, 1, 0},
		// 1/3 slow, then 2/4.
		{"slow calls", 10, 3, 0, 0.5, "ssSS", 4, events.CauseSlowCallRatio, 4, 0, 2},
		// An abandoned call is slow and no failure: 0/2 failed, 1/2 slow.
		{"abandoned calls", 10, 2, 0.1, 0.5, "sa", 2, events.CauseSlowCallRatio, 2, 0, 1},
		// Cancelled calls replace no others: 2/4 of ffss, as without them.
		{"cancelled calls", 4, 4, 0.5, 0, "ffcccscccs", 10, events.CauseFailureRatio, 4, 2, 0},
		// Both ratios are 2/2.
		{"failures before slow calls", 10, 2, 1, 1, "FF", 2, events.CauseFailureRatio, 2, 2, 2},
		// There are never 3 of the last 2 calls.
		{"min_requests above calls", 2, 3, 0.5, 0, "ffffff", 0, "", 0, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := countPolicy(test.calls)
				p.MinRequests, p.FailureRatio, p.SlowCallRatio = test.min, test.failures, test.slow
				w := newTestBreaker(t, p)
				calls := w.report(test.results, 24*time.Hour) // however long ago they were
				if test.opensAt == 0 {
					w.want(events.Closed)
					return
				}
				w.want(events.Open)
				c := w.change.Load()
				if calls != test.opensAt || c.Cause != test.cause {
					t.Errorf("opened at call %d, %s; want call %d, %s", calls, c.Cause, test.opensAt, test.cause)
				}
				if n := c.Counts; n.Requests != test.requests || n.Failures != test.f || n.Slow != test.slws {
					t.Errorf("counts %+v, want %d calls, %d failures, %d slow", n, test.requests, test.f, test.slws)
				}
			})
		})
	}
}
