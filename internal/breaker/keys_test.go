package breaker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// nothing is a Reporter for calls whose key has no breaker in the test.
type nothing struct{}

func (nothing) MakeRevocable(func() time.Duration)     {}
func (nothing) Success(time.Duration)                  {}
func (nothing) Failure(*events.Failure, time.Duration) {}
func (nothing) Abandon(time.Duration)                  {}
func (nothing) RetryAfter(time.Time)                   {}
func (nothing) Withdraw()                              {}

// keyOf returns the key for a letter; 0 for a hyphen, which is a call without a key.
func keyOf(letter rune) uint64 {
	if letter == '-' {
		return 0
	}
	return uint64(letter)
}

// allowKey admits a call of a key.
func (w *testBreaker) allowKey(letter rune) Call {
	w.t.Helper()
	call, err := w.Allow()
	if err != nil {
		w.t.Fatalf("rejected in state %v: %v", call.State, err)
	}
	if key := keyOf(letter); key != 0 {
		call = call.WithKey(key, events.Closed, nothing{})
	}
	return call
}

// failKeys makes a call for each letter: in lower case it fails, in upper case it succeeds, after the duration took.
func (w *testBreaker) failKeys(letters string, took time.Duration) {
	w.t.Helper()
	for _, letter := range letters {
		lower := []rune(strings.ToLower(string(letter)))[0]
		if call := w.allowKey(lower); letter != '-' && letter != lower {
			call.Success(took)
		} else {
			call.Failure(&events.Failure{Type: events.ErrorStatus}, took)
		}
	}
}

func byKey(p Policy) Policy {
	p.ByKey, p.RecoveryTimeout, p.HalfOpenRequests = true, time.Minute, 1
	return p
}

func TestOneKeyDoesNotOpenTheBreakerOfAll(t *testing.T) {
	failMax3, failMax5 := Policy{FailMax: 3}, Policy{FailMax: 5}
	ratio := Policy{Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 10, Window: time.Minute}}
	slow := Policy{Limits: algorithm.Limits{SlowCallRatio: 0.5, SlowCallDuration: time.Second, MinRequests: 4, Window: time.Minute}}
	expression := Policy{Limits: algorithm.Limits{
		Algorithm: "expression", Options: &algorithm.ExpressionOptions{OpenWhen: "failures >= 4 || slow_ratio >= 1"},
		Window: time.Minute, SlowCallDuration: time.Second,
	}}
	for _, c := range []struct {
		name   string
		policy Policy
		calls  string
		took   time.Duration
		want   events.State
	}{
		{"one key", failMax3, "aaa", 0, events.Closed},
		{"one key, for long", failMax3, strings.Repeat("a", 100), 0, events.Closed},
		{"no key", failMax3, "---", 0, events.Open},
		{"two keys", failMax5, "ababa", 0, events.Open},
		{"three quarters", Policy{FailMax: 4}, "aaab", 0, events.Open},
		{"more than three quarters", failMax5, "aaaab", 0, events.Closed},
		{"another key fails later", failMax5, "aaaaabb", 0, events.Open},
		{"another key fails too late", failMax3, strings.Repeat("a", 40) + "bbbbbbb", 0, events.Closed},
		{"another key fails for long", failMax3, strings.Repeat("a", 40) + "bbbbbbbb", 0, events.Open},
		{"a call without a key fails later", failMax3, "aaa-", 0, events.Open},
		{"a success of another key", failMax3, "aaaBaaa", 0, events.Closed},
		{"many keys", failMax3, "abc", 0, events.Open},
		{"limit 1, one key", Policy{FailMax: 1}, "aaaaa", 0, events.Closed},
		{"limit 1, no key", Policy{FailMax: 1}, "-", 0, events.Open},
		{"ratio, one key has all failures", ratio, strings.Repeat("aaaaaaaaaB", 10), 0, events.Closed},
		{"ratio, one key, then others", ratio, strings.Repeat("aaaaaaaaaB", 10) + "bcbcbcbc", 0, events.Open},
		{"ratio, many keys", ratio, "abcAdBefCg", 0, events.Open},
		{"ratio, the success of another key after many failures", ratio, "aaaaaaaaaB", 0, events.Closed},
		{"slow successes of one key", slow, "AAAAAA", 2 * time.Second, events.Closed},
		{"slow successes of two keys", slow, "ABAB", 2 * time.Second, events.Open},
		{"slow failures of one key", slow, "aaaaaa", 2 * time.Second, events.Closed},
		{"expression, one key fails", expression, "aaaaaa", 0, events.Closed},
		{"expression, two keys fail", expression, "abab", 0, events.Open},
		{"expression, one key is slow", expression, "AAAA", 2 * time.Second, events.Closed},
		{"expression, several keys are slow", expression, "aaaab-", 2 * time.Second, events.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newTestBreaker(t, byKey(c.policy))
			w.failKeys(c.calls, c.took)
			w.want(c.want)
		})
	}
}

func TestWithoutByKeyTheKeysOfCallsDoNotMatter(t *testing.T) {
	w := newTestBreaker(t, Policy{FailMax: 3, RecoveryTimeout: time.Minute, HalfOpenRequests: 1})
	w.failKeys("aaa", 0)
	w.want(events.Open)
}

func TestPolicyByKeyCanChange(t *testing.T) {
	p := byKey(Policy{FailMax: 3})
	w := newTestBreaker(t, p)
	w.failKeys("aaaa", 0)
	if n := w.Status().ConsecutiveFailures; n != 4 {
		t.Errorf("%d consecutive failures, want 4", n)
	}
	p.ByKey = false
	w.SetPolicy(p)
	w.want(events.Closed)
	w.failKeys("a", 0)
	w.want(events.Open)
}

func TestOldFailuresDoNotCountAgainstAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, byKey(Policy{Limits: algorithm.Limits{FailureRatio: 0.5, MinRequests: 4, Window: 10 * time.Second}}))
		w.failKeys("bcd", 0)
		time.Sleep(time.Minute)
		w.failKeys("aaaaaa", 0)
		w.want(events.Closed) // the failures of b, c and d are no longer in the window
		w.failKeys("bc", 0)
		w.want(events.Open)
	})
}

func TestEvidenceOfOneKeyDoesNotOpenTheBreaker(t *testing.T) {
	p := byKey(Policy{Adaptive: adaptive.Options{
		Mode: adaptive.Enforce, FalseAlarm: 1e-8, MinRatio: 0.2, Floor: 0.01, Cap: 0.1, WarmupCalls: 10, WarmupTime: time.Second,
	}})
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, p)
		for range 300 {
			w.failKeys("B", time.Millisecond)
			time.Sleep(10 * time.Millisecond)
		}
		w.failKeys(strings.Repeat("a", 30), 0)
		w.want(events.Closed)
		w.failKeys(strings.Repeat("b", 8), 0)
		w.want(events.Open)
		if cause := w.Status().Cause; cause != events.CauseAdaptive {
			t.Errorf("cause %s", cause)
		}
	})
}

func TestRetryAfterOfOneKeyDoesNotOpenTheBreaker(t *testing.T) {
	w := newTestBreaker(t, byKey(Policy{RetryAfter: 2, RetryAfterMax: time.Hour}))
	for _, letter := range "aaaab" {
		w.want(events.Closed)
		w.allowKey(letter).RetryAfter(time.Now().Add(time.Minute))
	}
	w.want(events.Closed)
	w.allowKey('b').RetryAfter(time.Now().Add(time.Minute))
	w.want(events.Open)
}

// One key must not keep the breaker open by being the only one whose calls become probes.
func TestFailedProbesOfOneKeyDoNotReopenTheBreaker(t *testing.T) {
	w := newTestBreaker(t, byKey(Policy{FailMax: 3}))
	w.Force(events.HalfOpen, 0, "")
	w.failKeys("aaa", 0)
	w.want(events.HalfOpen)
	w.failKeys("b", 0)
	w.want(events.Open)

	w.Force(events.HalfOpen, 0, "")
	w.failKeys("aaB", 0)
	w.want(events.Closed)

	w.Force(events.HalfOpen, 0, "")
	w.failKeys("-", 0)
	w.want(events.Open)
}

func TestThrottleRejectsNothingBecauseOfOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, byKey(Policy{Limits: algorithm.Limits{
			Algorithm: "throttle", Options: &algorithm.ThrottleOptions{SuccessRatio: 0.95, Aggression: 1, MaxRejection: 1, MinRPS: 0}, Window: time.Minute,
		}}))
		w.failKeys(strings.Repeat("aaaaaaaaaB", 10), 0) // a rejection would fail the test
		if ratio := w.Status().RejectionRatio; ratio != 0 {
			t.Errorf("rejection ratio %v", ratio)
		}
		for i := range 20 {
			if call, err := w.Allow(); err == nil {
				call.WithKey(uint64(i)+1, events.Closed, nothing{}).Failure(&events.Failure{}, 0)
			}
		}
		if ratio := w.Status().RejectionRatio; ratio < 0.5 {
			t.Errorf("rejection ratio %v after failures of many keys", ratio)
		}
	})
}

// reportRecorder is a Reporter that notes what it is told.
type reportRecorder struct{ got []string }

func (r *reportRecorder) MakeRevocable(func() time.Duration) {}
func (r *reportRecorder) Success(took time.Duration) {
	r.got = append(r.got, fmt.Sprint("success ", took))
}
func (r *reportRecorder) Failure(f *events.Failure, took time.Duration) {
	r.got = append(r.got, fmt.Sprint("failure ", f.Type, " ", took))
}
func (r *reportRecorder) Abandon(took time.Duration) {
	r.got = append(r.got, fmt.Sprint("abandon ", took))
}
func (r *reportRecorder) RetryAfter(time.Time) { r.got = append(r.got, "retry after") }
func (r *reportRecorder) Withdraw()            { r.got = append(r.got, "withdraw") }

func TestReportsReachTheBreakerOfTheKey(t *testing.T) {
	w, r := newTestBreaker(t, byKey(Policy{FailMax: 3})), new(reportRecorder)
	for _, report := range []func(Call){
		func(c Call) { c.Success(1) },
		func(c Call) { c.Failure(&events.Failure{Type: events.ErrorReset}, 2) },
		func(c Call) { c.Cancel() },
		func(c Call) { c.Reject() },
		func(c Call) { c.Withdraw() },
		func(c Call) { c.Abandon(3) },
		func(c Call) { c.RetryAfter(time.Now()) },
		func(c Call) { c.WithStatus(200).WithFault(true).Success(4) },
	} {
		call, _ := w.Allow()
		report(call.WithKey(1, events.HalfOpen, r))
	}
	want := "[success 1ns failure reset 2ns withdraw withdraw withdraw abandon 3ns retry after success 4ns]"
	if got := fmt.Sprint(r.got); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// The rule, once more: of the last failures of the row, at most three quarters may be of one key.
func TestDominationMatchesItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "fail_max")
		b := New("svc", byKey(Policy{FailMax: limit}), func(events.Event) {})
		defer b.Close()
		letters := rapid.SliceOfN(rapid.SampledFrom([]rune("aaaaaaaabbc-B")), 1, 150).Draw(t, "calls")
		var row []rune
		for i, letter := range letters {
			call, err := b.Allow()
			if err != nil {
				t.Fatalf("call %d is rejected", i)
			}
			call = call.WithKey(keyOf(letter), events.Closed, nothing{})
			if letter == 'B' {
				call.Success(0)
				row = nil
				continue
			}
			call.Failure(&events.Failure{}, 0)
			row = append(row, letter)
			recent, counts, most := row[max(0, len(row)-32):], map[rune]int{}, 0
			for _, letter := range recent {
				if counts[letter]++; letter != '-' {
					most = max(most, counts[letter])
				}
			}
			opens := len(row) >= limit && float64(most) <= 0.75*float64(len(recent))
			if open := b.State() == events.Open; open != opens {
				t.Fatalf("after %q: open %v, want %v", string(letters[:i+1]), open, opens)
			}
			if opens {
				return
			}
		}
	})
}
