package algorithm

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
	"cbproxy/internal/expression"
)

func expressionLimits(openWhen string) Limits {
	return Limits{
		Algorithm: "expression", Options: &ExpressionOptions{OpenWhen: expression.OpenWhenText(openWhen)},
		Window: time.Minute, SlowCallDuration: time.Second,
	}
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
		l := expressionLimits(openWhen.Draw(t, "open_when"))
		l.Window = slotCount * slot
		a := l.New().(*expressionAlgorithm)
		now, calls := time.Duration(0), []expressionCall(nil)
		t.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "calls") {
					o := randomObservations.Draw(t, "call")
					o.Type = rapid.SampledFrom(events.ErrorTypes[:]).Draw(t, "type")
					o.Duration = time.Duration(rapid.Int64Range(int64(firstBucket), int64(time.Minute)).Draw(t, "took"))
					o.ConsecutiveFailures = rapid.Uint32().Draw(t, "consecutive")
					calls = append(calls, expressionCall{now, o})
					calls = slices.DeleteFunc(calls, func(c expressionCall) bool { return now-c.at >= l.Window })
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
			"wait": func(t *rapid.T) { now += slot * time.Duration(rapid.IntRange(1, 100).Draw(t, "slots")) },
			"reload": func(t *rapid.T) {
				changed := expressionLimits(openWhen.Draw(t, "open_when"))
				changed.Window = l.Window
				a.Configure(now, &changed)
			},
		})
	})
}

// Durations take memory only while they are needed.
func TestExpressionCountsDurationsOnlyIfNeeded(t *testing.T) {
	limits := func(openWhen string) *Limits { l := expressionLimits(openWhen); return &l }
	a := limits("requests > 100").New().(*expressionAlgorithm)
	if a.window.durations != nil {
		t.Error("durations are counted without need")
	}
	a.Configure(0, limits("p95 > 1"))
	if a.window.durations == nil {
		t.Error("durations are not counted")
	}
	a.Configure(0, limits("requests > 100"))
	if a.window.durations != nil {
		t.Error("durations are still counted")
	}
	for openWhen, want := range map[string]bool{"requests > 1": false, "slow_ratio > 0.5": true, "p50 > 1": true, "p95 > 1": true, "p99 > 1": true} {
		if got := limits(openWhen).UsesDurations(); got != want {
			t.Errorf("%s: uses durations: %v, want %v", openWhen, got, want)
		}
	}
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
	if l := expressionLimits("invalid"); l.Used() {
		t.Error("an invalid expression is used")
	}
}
