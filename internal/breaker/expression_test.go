package breaker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/expression"
)

func expressionPolicy(openWhen string) Policy {
	return Policy{
		Limits: algorithm.Limits{
			Algorithm: "expression", Options: &algorithm.ExpressionOptions{OpenWhen: expression.OpenWhenText(openWhen)},
			Window: time.Minute, SlowCallDuration: time.Second,
		},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

// fail reports a failure of a type.
func (w *testBreaker) failWith(kind events.ErrorType, took time.Duration) {
	w.t.Helper()
	w.allow().Failure(&events.Failure{Type: kind}, took)
}

// Each step is s (success) or c, t, r, u, p (failure by connect, timeout, reset, status, protocol), or a (abandoned), in upper case
// if it takes 2 s instead of 100 ms, and w waits for half a minute.
func (w *testBreaker) steps(t *testing.T, steps string) {
	t.Helper()
	for i, step := range steps {
		took := 100 * time.Millisecond
		if step < 'a' {
			took, step = 2*time.Second, step-'A'+'a'
		}
		switch step {
		case 's':
			w.allow().Success(took)
		case 'a':
			w.allow().Abandon(took)
		case 'w':
			time.Sleep(30 * time.Second)
		default:
			kinds := map[rune]events.ErrorType{
				'c': events.ErrorConnect, 't': events.ErrorTimeout, 'r': events.ErrorReset, 'u': events.ErrorStatus, 'p': events.ErrorProtocol,
			}
			w.failWith(kinds[step], took)
		}
		if open := w.State() == events.Open; open != (i == len(steps)-1) {
			t.Fatalf("open is %v after step %d of %s", open, i+1, steps)
		}
	}
}

func TestExpressionOpensWhenTrue(t *testing.T) {
	for _, c := range []struct{ openWhen, steps string }{ // the breaker opens exactly with the last step
		{"requests >= 3", "sas" + "a" + "s"},                                         // an abandoned call that was not slow is none
		{"requests >= 3", "ssS"},                                                     // without slow_ratio, durations do not matter
		{"failures >= 2", "cssp"},                                                    // of any type
		{"requests >= 4 && failure_ratio > 0.3", "usss" + "c"},                       // 1/1 to 1/4, then 2/5
		{"failure_ratio >= 0.5 && requests > 3", "suss" + "u" + "u"},                 // 1/4, 2/5, 3/6
		{"connects == 1 && timeouts == 1 && resets == 1 && statuses == 1", "pucptr"}, // in any order
		{"connects + resets >= 2", "cttuur"},
		{"consecutive_failures >= 3", "ccsccac"},              // an abandoned call does not end the row
		{"slow_ratio >= 0.5 && requests >= 4", "SsssA" + "S"}, // 2/5 are slow, and then 3/6
		{"slow_ratio > 0.4", "ssA" + "A"},                     // 1/3, 2/4: abandoned slowly
		{"p50 > 1", "ssSS" + "S"},                             // rank 3 of 5
		{"p95 > 1", strings.Repeat("s", 20) + "SS"},           // rank 21 of 22 is the slower one
		{"p99 > 1 && requests >= 3", "Sss"},                   // the slowest of three
		{"p50 < 0.106 && p50 > 0.094 && requests == 2", "ss"},
		{"failures >= 3", "cwcwcc"}, // the first one leaves the window with the second wait
		{"timeouts >= 2 && requests == 2", "tswtwt"},
		{"true", "s"},
	} {
		t.Run(c.openWhen, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestBreaker(t, expressionPolicy(c.openWhen))
				w.steps(t, c.steps)
				if change := w.change.Load(); change.Cause != events.CauseExpression {
					t.Errorf("cause %s", change.Cause)
				}
			})
		})
	}
}

// The event that reports the opening has the counts of the window.
func TestExpressionReportsItsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, expressionPolicy("requests >= 4 && slow_ratio >= 0.5"))
		w.steps(t, "SsuU")
		want := events.Counts{Requests: 4, Successes: 2, Failures: 2, ConsecutiveFailures: 2, Slow: 2}
		if got := w.change.Load().Counts; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// The event of an opening has the last failure only if the window has failures: slow calls alone may have opened the breaker.
func TestExpressionOpeningHasNoOutdatedFailure(t *testing.T) {
	for steps, failed := range map[string]bool{"usS": true, "uS": true, "uwwsS": false, "S": false} {
		synctest.Test(t, func(t *testing.T) {
			w := newTestBreaker(t, expressionPolicy("p95 > 1"))
			w.steps(t, steps)
			if f := w.change.Load().Failure; (f != nil) != failed {
				t.Errorf("%s: the event has the failure %+v", steps, f)
			}
		})
	}
}

// consecutive_failures is the breaker's own number: it is not reset with the algorithm.
func TestExpressionUsesTheBreakersConsecutiveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := expressionPolicy("consecutive_failures >= 5")
		before := p
		before.Algorithm, before.Options = "", nil
		w := newTestBreaker(t, before)
		w.call(3, false, 0)
		w.SetPolicy(p)
		w.call(1, false, 0)
		w.want(events.Closed)
		w.call(1, false, 0)
		w.want(events.Open)
		w.recover()
		w.call(4, false, 0) // those of the half-open state do not count
		w.want(events.Closed)
		w.call(1, false, 0)
		w.want(events.Open)
	})
}

// with returns the policy with another expression.
func (p *Policy) with(openWhen string) Policy {
	changed := *p
	changed.Options = &algorithm.ExpressionOptions{OpenWhen: expression.OpenWhenText(openWhen)}
	return changed
}

// A reload keeps the counts, whether the expression is the same or not.
func TestReloadOfExpressionKeepsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := expressionPolicy("timeouts >= 4")
		w := newTestBreaker(t, p)
		w.failWith(events.ErrorTimeout, 0)
		w.failWith(events.ErrorReset, 0)
		w.SetPolicy(p.with("timeouts >= 4"))
		changed := p.with("requests == 4 && timeouts == 2 && resets == 1 && p50 > 0")
		changed.Window = 2 * time.Minute
		w.SetPolicy(changed)
		w.failWith(events.ErrorTimeout, time.Second) // the only one whose duration is known
		w.want(events.Closed)
		w.call(1, true, 3*time.Second)
		w.want(events.Open)
		if got := w.change.Load().Counts; got.Requests != 4 || got.Failures != 3 {
			t.Errorf("%+v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := expressionPolicy("p50 > 5 && requests >= 3")
		w := newTestBreaker(t, p)
		w.call(2, true, 6*time.Second)
		w.SetPolicy(p.with("p50 > 5 && p99 > 6.2 && requests >= 3")) // the durations are kept, too
		w.call(1, true, 7*time.Second)
		w.want(events.Open)
	})
}

// An error in the evaluation does not open the breaker. It is counted over all states of the breaker.
func TestExpressionErrorsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := expressionPolicy("requests % connects == 0") // no connects: a division by zero
		p.FailMax = 4
		w := newTestBreaker(t, p)
		wantErrors := func(want uint64) {
			t.Helper()
			if s := w.Status(); s.ExpressionErrors != want {
				t.Fatalf("%d errors, want %d", s.ExpressionErrors, want)
			}
		}
		w.call(1, true, 0)
		w.call(1, false, 0)
		w.want(events.Closed)
		wantErrors(2)
		w.SetPolicy(p.with("requests % connects == 5"))
		w.call(3, false, 0) // the last one opens the breaker by fail_max
		w.want(events.Open)
		wantErrors(5)
		w.recover()
		w.call(1, true, 0)
		wantErrors(6)
		w.Force(events.Closed, 0, "")
		w.call(1, true, 0) // nothing is evaluated while the state is forced
		wantErrors(6)
		w.Release("")
		w.call(1, true, 0)
		wantErrors(7)
		w.SetPolicy(p.with("requests > 100"))
		w.call(1, true, 0)
		wantErrors(7)
	})
}
