package breaker

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
	"cbproxy/internal/expression"
)

func expressionPolicy(openWhen string) Policy {
	return Policy{
		Window: time.Minute, SlowCallDuration: time.Second, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
		Algorithm: "expression", AlgorithmOptions: &ExpressionOptions{OpenWhen: expression.OpenWhenText(openWhen)},
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

// consecutive_failures is the breaker's own number: it is not reset with the algorithm.
func TestExpressionUsesTheBreakersConsecutiveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := expressionPolicy("consecutive_failures >= 5")
		before := p
		before.Algorithm, before.AlgorithmOptions = "", nil
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

// expressionCall is a call of the list model.
type expressionCall struct {
	at time.Duration
	Observation
}

// wantInput returns the variables of a list of calls.
func wantInput(calls []expressionCall) (w expression.Window) {
	var took []time.Duration
	for _, c := range calls {
		w.Requests++
		if c.Slow {
			w.SlowRatio++
		}
		took = append(took, c.Duration)
		w.ConsecutiveFailures = int(c.ConsecutiveFailures)
		if !c.Failed {
			continue
		}
		w.Failures++
		switch c.Type {
		case events.ErrorConnect:
			w.Connects++
		case events.ErrorTimeout:
			w.Timeouts++
		case events.ErrorReset:
			w.Resets++
		case events.ErrorStatus:
			w.Statuses++
		}
	}
	w.FailureRatio, w.SlowRatio = float64(w.Failures)/float64(w.Requests), w.SlowRatio/float64(w.Requests)
	w.P50, w.P95, w.P99 = rankedSeconds(took, 0.5), rankedSeconds(took, 0.95), rankedSeconds(took, 0.99)
	return w
}

// The variables are those of a list of the calls in the window. Calls are made at multiples of the width of a slot, so that each
// slot has the calls of one moment and the window is exact.
func TestExpressionMatchesAListOfCalls(t *testing.T) {
	const slot = time.Second
	openWhen := rapid.SampledFrom([]string{"p50 + p95 + p99 < 0", "p99 < 0 && p50 < 0 || p95 < 0 && failures < 0"})
	rapid.Check(t, func(t *rapid.T) {
		p := expressionPolicy(openWhen.Draw(t, "open_when"))
		p.Window = slotCount * slot
		a := newAlgorithm(&p).(*expressionAlgorithm)
		now, calls := time.Duration(0), []expressionCall(nil)
		t.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "calls") {
					o := randomObservations.Draw(t, "call")
					o.Type = rapid.SampledFrom(events.ErrorTypes[:]).Draw(t, "type")
					o.Duration = time.Duration(rapid.Int64Range(int64(firstBucket), int64(time.Minute)).Draw(t, "took"))
					o.ConsecutiveFailures = rapid.Uint32().Draw(t, "consecutive")
					calls = append(calls, expressionCall{now, o})
					calls = slices.DeleteFunc(calls, func(c expressionCall) bool { return now-c.at >= p.Window })
					if cause := a.Observe(now, o); cause != "" || a.Err() != nil {
						t.Fatalf("cause %q, error %v", cause, a.Err())
					}
					got, want := a.input, wantInput(calls)
					for _, percentile := range [][2]*float64{{&got.P50, &want.P50}, {&got.P95, &want.P95}, {&got.P99, &want.P99}} {
						if math.Abs(*percentile[0]-*percentile[1]) > maxPercentileError**percentile[1] {
							t.Fatalf("percentile %v, want %v", *percentile[0], *percentile[1])
						}
						*percentile[0] = *percentile[1]
					}
					if got != want {
						t.Fatalf("got %+v, want %+v", got, want)
					}
				}
			},
			"wait":   func(t *rapid.T) { now += slot * time.Duration(rapid.IntRange(1, 100).Draw(t, "slots")) },
			"reload": func(t *rapid.T) { p = new(p).with(openWhen.Draw(t, "open_when")); a.Configure(now, new(p)) },
		})
	})
}

// with returns the policy with another expression.
func (p *Policy) with(openWhen string) Policy {
	changed := *p
	changed.AlgorithmOptions = &ExpressionOptions{OpenWhen: expression.OpenWhenText(openWhen)}
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

// Durations take memory only while they are needed.
func TestExpressionCountsDurationsOnlyIfNeeded(t *testing.T) {
	p := expressionPolicy("requests > 100")
	a := newAlgorithm(&p).(*expressionAlgorithm)
	if a.window.durations != nil {
		t.Error("durations are counted without need")
	}
	a.Configure(0, new(p.with("p95 > 1")))
	if a.window.durations == nil {
		t.Error("durations are not counted")
	}
	a.Configure(0, &p)
	if a.window.durations != nil {
		t.Error("durations are still counted")
	}
	for openWhen, want := range map[string]bool{"requests > 1": false, "slow_ratio > 0.5": true, "p50 > 1": true, "p95 > 1": true, "p99 > 1": true} {
		if got := new(p.with(openWhen)).UsesDurations(); got != want {
			t.Errorf("%s: uses durations: %v, want %v", openWhen, got, want)
		}
	}
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

func TestExpressionOptionsAreValidated(t *testing.T) {
	for openWhen, want := range map[string]string{
		"requests > 1": "",
		"":             "open_when: must be set if the algorithm is expression",
		"foo > 1":      "open_when: unknown name foo, must be one of requests",
	} {
		o, got := &ExpressionOptions{OpenWhen: expression.OpenWhenText(openWhen)}, ""
		o.Validate(func(path, message string) { got += path + ": " + message })
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%q: got %q, want %q", openWhen, got, want)
		}
	}
	w := newTestBreaker(t, expressionPolicy("invalid")) // it is not used, as there is nothing to decide with
	w.call(10, false, 0)
	if s := w.Status(); s.State != events.Closed || s.Window != nil {
		t.Errorf("%+v", s)
	}
}
