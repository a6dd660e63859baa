package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// callsOf returns calls that are asked for a second apart and take no time, one for each letter: s for a success, f for a failure, r for
// one that was rejected, c for one that was cancelled, l for a success that took 10 s.
func callsOf(letters string) (calls []Call) {
	for i, letter := range letters {
		c := events.Call{Time: begin.Add(time.Duration(i) * time.Second), Result: events.ResultSuccess, Duration: time.Millisecond}
		switch letter {
		case 'f':
			c.Result, c.ErrorType = events.ResultFailure, events.ErrorReset
		case 'r':
			c.Result, c.Duration = events.ResultRejected, 0
		case 'c':
			c.Result, c.Duration = events.ResultCancelled, 0
		case 'l':
			c.Duration = 10 * time.Second
		}
		calls = append(calls, NewCall(c))
	}
	return calls
}

func failMax(n int) breaker.Policy {
	return breaker.Policy{FailMax: n, RecoveryTimeout: 5 * time.Second, HalfOpenRequests: 1}
}

func TestRunTellsWhatTheBreakerWouldHaveDone(t *testing.T) {
	at := func(seconds float64) string {
		return begin.Add(time.Duration(math.Round(seconds*1000)) * time.Millisecond).Format("05.000")
	}
	for _, test := range []struct {
		name, calls string
		policy      breaker.Policy
		want        Result
		transitions string
	}{
		{"healthy", "ssss", failMax(3), Result{}, ""},
		// Opens with the third failure, at 2.001 s; the calls at 3 to 7 s are refused; the one at 8 s is a probe.
		{"dead, then healthy", "fffssffsss", failMax(3),
			Result{Openings: 1, OpenSeconds: 5, Refused: 5, RefusedGood: 3, FailuresPassed: 3},
			at(2.001) + " open consecutive_failures, " + at(7.001) + " half-open recovery_timeout, " + at(8.001) + " closed probes_succeeded"},
		// The probe at 8 s fails: open from 8.001 s to the end, which is the last call at 10 s.
		{"dead", "fffffffffff", failMax(3), Result{Openings: 2, OpenSeconds: 6.999, Refused: 7, FailuresPassed: 4},
			at(2.001) + " open consecutive_failures, " + at(7.001) + " half-open recovery_timeout, " + at(8.001) + " open probe_failed"},
		// Calls that were rejected or cancelled do not end the row of failures.
		{"without a result", "frfcrfs", failMax(3), Result{Openings: 1, OpenSeconds: 0.999, Refused: 1, RefusedGood: 1, FailuresPassed: 3, unknown: 2},
			at(5.001) + " open consecutive_failures"},
		// The record has the breaker's own rejections: where it would be closed, they are unknown.
		{"rejected", "rrr", failMax(1), Result{unknown: 3}, ""},
		// The slow call, asked for at 1 s, ends at 11 s, after all others.
		{"in flight", "slss", breaker.Policy{
			Limits:          algorithm.Limits{SlowCallRatio: 0.25, SlowCallDuration: 5 * time.Second, MinRequests: 4, Window: time.Minute},
			RecoveryTimeout: 5 * time.Second, HalfOpenRequests: 1,
		}, Result{Openings: 1}, at(11) + " open slow_call_ratio"},
		{"off", "ffff", breaker.Policy{Mode: breaker.Off, FailMax: 1, RecoveryTimeout: time.Second, HalfOpenRequests: 1}, Result{FailuresPassed: 4}, ""},
		{"shadow", "ff", breaker.Policy{Mode: breaker.Shadow, FailMax: 1, RecoveryTimeout: time.Minute, HalfOpenRequests: 1},
			Result{Openings: 1, OpenSeconds: 0.999, Refused: 1, FailuresPassed: 1}, at(0.001) + " open consecutive_failures"},
		// With nothing learnt yet the evidence is complete after twelve failures.
		{"adaptive", "fffffffffffff", breaker.Policy{RecoveryTimeout: time.Minute, HalfOpenRequests: 1, Adaptive: adaptive.Options{
			Mode: adaptive.Enforce, FalseAlarm: 1e-8, MinRatio: 0.2, Floor: 0.01, Cap: 0.1,
		}}, Result{Openings: 1, OpenSeconds: 0.999, Refused: 1, FailuresPassed: 12}, at(11.001) + " open adaptive"},
		// No call of the record is an active probe.
		{"active probes", "fsssssss", breaker.Policy{FailMax: 1, RecoveryTimeout: 5 * time.Second, HalfOpenRequests: 1, ActiveProbing: true},
			Result{Openings: 1, OpenSeconds: 5, Refused: 5, RefusedGood: 5, FailuresPassed: 1},
			at(0.001) + " open consecutive_failures, " + at(5.001) + " half-open recovery_timeout, " + at(6.001) + " closed probes_succeeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Run("svc", test.policy, callsOf(test.calls))
			var transitions []string
			for _, tr := range got.Transitions {
				transitions = append(transitions, fmt.Sprint(tr.Time.Format("05.000"), " ", tr.To, " ", tr.Cause))
			}
			if text := strings.Join(transitions, ", "); text != test.transitions {
				t.Errorf("transitions %s, want %s", text, test.transitions)
			}
			if (got.FirstOpening != nil) != (test.want.Openings > 0) {
				t.Errorf("first opening %v", got.FirstOpening)
			}
			r := *got
			r.FirstOpening, r.Transitions = nil, nil
			if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", test.want) {
				t.Errorf("got %+v, want %+v", r, test.want)
			}
		})
	}
}

// A breaker with fail_max only, and calls that take no time, is easy to write down.
func TestRunMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringOfN(rapid.RuneFrom([]rune("ssfffrc")), 0, 200, -1).Draw(t, "calls")
		limit, recovery, probes := rapid.IntRange(1, 4).Draw(t, "fail_max"), rapid.IntRange(1, 20).Draw(t, "recovery"), rapid.IntRange(1, 3).Draw(t, "probes")
		policy := breaker.Policy{FailMax: limit, RecoveryTimeout: time.Duration(recovery)*time.Second + 500*time.Millisecond, HalfOpenRequests: probes}
		policy.RecoveryBackoff.Jitter = 0.5 // without effect
		var want Result
		state, row, succeeded, openUntil := "closed", 0, 0, 0.0
		for i, letter := range letters {
			if state == "open" && float64(i) >= openUntil {
				state, succeeded = "half-open", 0
			}
			if state == "open" {
				want.Refused++
				if letter == 's' {
					want.RefusedGood++
				}
				continue
			}
			open := false
			switch letter {
			case 'r':
				want.unknown++
			case 'f':
				want.FailuresPassed++
				row++
				open = state == "half-open" || row == limit
			case 's':
				row = 0
				if succeeded++; state == "half-open" && succeeded == probes {
					state = "closed"
				}
			}
			if open {
				want.Openings++
				state, row, openUntil = "open", 0, float64(i)+0.001+policy.RecoveryTimeout.Seconds()
			}
		}
		got := Run("svc", policy, callsOf(letters))
		if got.Openings != want.Openings || got.Refused != want.Refused || got.RefusedGood != want.RefusedGood ||
			got.FailuresPassed != want.FailuresPassed || got.unknown != want.unknown {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// Every algorithm, backoff and ramp runs. Each call is refused or passed, and the same input has the same output.
func TestRunIsReproducible(t *testing.T) {
	policies := map[string]func(p *breaker.Policy){
		"ratio": func(p *breaker.Policy) { p.FailureRatio, p.SlowCallRatio = 0.2, 0.3 },
		"count": func(p *breaker.Policy) {
			p.FailureRatio, p.Algorithm, p.Options = 0.2, "count", &algorithm.CountOptions{Calls: 50}
		},
		"budget":   func(p *breaker.Policy) { p.Algorithm = "budget" },
		"throttle": func(p *breaker.Policy) { p.Algorithm = "throttle" },
		"expression": func(p *breaker.Policy) {
			p.Algorithm, p.Options = "expression", &algorithm.ExpressionOptions{OpenWhen: "failures > 5 && p95 > 0.05"}
		},
	}
	for name, change := range policies {
		for _, scenario := range Scenarios() {
			calls := Scenario{Name: scenario, Rate: 20, Minutes: 5, Seed: 3}.Calls(begin)
			p := breaker.Policy{
				Limits:  algorithm.Limits{MinRequests: 10, Window: 10 * time.Second, SlowCallDuration: time.Second},
				FailMax: 20, RecoveryTimeout: 3 * time.Second, HalfOpenRequests: 2, RecoveryRamp: 10 * time.Second,
				RecoveryBackoff: breaker.Backoff{Multiplier: 2, Max: time.Minute, Jitter: 0.5},
			}
			change(&p)
			run := func() (*Result, []byte) {
				r := Run("svc", p, calls)
				content, err := json.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				return r, content
			}
			r, first := run()
			if _, second := run(); !bytes.Equal(first, second) {
				t.Errorf("%s, %s: two runs differ", name, scenario)
			}
			failures := 0
			for i := range calls {
				if calls[i].Result() == events.ResultFailure {
					failures++
				}
			}
			if refusedFailures := r.Refused - r.RefusedGood; r.FailuresPassed+refusedFailures != failures {
				t.Errorf("%s, %s: %d failures passed and %d refused of %d", name, scenario, r.FailuresPassed, refusedFailures, failures)
			}
			if scenario == "dead" && r.Refused == 0 {
				t.Errorf("%s refuses nothing while the upstream is dead", name)
			}
		}
	}
}

func TestScenariosAreSeeded(t *testing.T) {
	for _, name := range Scenarios() {
		s := Scenario{Name: name, Rate: 10, Minutes: 4, Seed: 1}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		calls := s.Calls(begin)
		if !slices.Equal(calls, s.Calls(begin)) {
			t.Errorf("%s: the same seed makes other calls", name)
		}
		s.Seed = 2
		if slices.Equal(calls, s.Calls(begin)) {
			t.Errorf("%s: another seed makes the same calls", name)
		}
		healthy := 0
		for i := range calls {
			if at := calls[i].Time().Sub(begin); at < time.Minute || at >= 3*time.Minute {
				if calls[i].Result() == events.ResultSuccess && calls[i].duration() <= 100*time.Millisecond {
					healthy++
				} else {
					t.Errorf("%s: a call at %v is not healthy", name, at)
				}
			}
		}
		if n := len(calls); n < 2000 || n > 2800 || healthy < 900 {
			t.Errorf("%s: %d calls, %d of them outside the fault", name, n, healthy)
		}
	}
	for _, s := range []Scenario{{Name: "unknown", Rate: 1, Minutes: 1}, {Name: "dead", Minutes: 1}, {Name: "dead", Rate: 1, Minutes: -1}, {Name: "dead", Rate: 1e6, Minutes: 1e6}} {
		if s.Validate() == nil {
			t.Errorf("%+v is valid", s)
		}
	}
}

// The clock calls functions in the order of their times, at these times, also those that are added by others.
func TestClock(t *testing.T) {
	c := &clock{now: begin}
	var called []string
	note := func(name string) func() {
		return func() { called = append(called, fmt.Sprint(name, c.Now().Sub(begin))) }
	}
	c.AfterFunc(2*time.Second, note("b"))
	c.AfterFunc(time.Second, func() { note("a")(); c.AfterFunc(500*time.Millisecond, note("nested")) })
	stop := c.AfterFunc(time.Second, note("stopped"))
	c.AfterFunc(2*time.Second, note("c"))
	c.AfterFunc(time.Hour, note("later"))
	stop()
	c.advance(begin.Add(2 * time.Second))
	c.advance(begin) // does not go back
	if got, want := strings.Join(called, " "), "a1s nested1.5s b2s c2s"; got != want || !c.Now().Equal(begin.Add(2*time.Second)) {
		t.Errorf("called %s at %v, want %s", got, c.Now(), want)
	}
}

func BenchmarkRun(b *testing.B) {
	calls := Scenario{Name: "flaky", Rate: 100, Minutes: 10, Seed: 1}.Calls(begin)
	for b.Loop() {
		Run("svc", failMax(5), calls)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(calls)), "ns/call")
}

// It is learnt from the record from when on a call is slow.
func TestRunLearnsWhichCallsAreSlow(t *testing.T) {
	var calls []Call
	for i := range 400 {
		took := 20 * time.Millisecond
		if i >= 300 {
			took = 400 * time.Millisecond
		}
		calls = append(calls, NewCall(events.Call{Time: begin.Add(time.Duration(i) * 10 * time.Second), Result: events.ResultSuccess, Duration: took}))
	}
	policy := breaker.Policy{
		Limits:          algorithm.Limits{SlowCallRatio: 0.5, SlowCallDuration: 5 * time.Second, MinRequests: 10, Window: 5 * time.Minute},
		RecoveryTimeout: time.Hour, HalfOpenRequests: 1,
		Adaptive: adaptive.Options{FalseAlarm: 1e-8, Floor: 0.01, Cap: 0.1, WarmupCalls: 200, WarmupTime: 30 * time.Minute},
	}
	if r := Run("svc", policy, calls); r.Openings != 0 {
		t.Errorf("with a fixed duration: %+v", r)
	}
	policy.SlowCall = adaptive.SlowCall{Default: 5 * time.Second, Max: 24 * time.Second}
	r := Run("svc", policy, calls)
	if r.Openings != 1 || r.Transitions[0].Cause != events.CauseSlowCallRatio || r.FirstOpening.Before(calls[300].Time()) {
		t.Errorf("%+v", r)
	}
	policy.Adaptive.WarmupCalls = 1000
	if r := Run("svc", policy, calls); r.Openings != 0 {
		t.Errorf("before the warmup: %+v", r)
	}
}
