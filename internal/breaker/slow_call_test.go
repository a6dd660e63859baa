package breaker

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// autoSlowPolicy is a policy that opens if half of the calls are slow, for a route with a timeout of 30 s.
func autoSlowPolicy(mode adaptive.Mode, name string) Policy {
	p := adaptivePolicy(mode)
	p.Limits = algorithm.Limits{Algorithm: name, SlowCallRatio: 0.5, SlowCallDuration: 5 * time.Second, MinRequests: 20, Window: time.Minute}
	if name == "expression" {
		p.SlowCallRatio, p.Options = 0, &algorithm.ExpressionOptions{OpenWhen: "requests >= 20 && slow_ratio >= 0.5"}
	}
	p.SlowCall = adaptive.SlowCall{Default: 5 * time.Second, Max: 24 * time.Second}
	return p
}

// An upstream that becomes slower than what was learnt opens the breaker, with each mode of adaptive and each algorithm that uses it.
func TestBreakerOpensBySlowCallsAsLearnt(t *testing.T) {
	for _, mode := range []adaptive.Mode{adaptive.Off, adaptive.Shadow, adaptive.Enforce} {
		for _, name := range []string{"ratio", "count", "expression"} {
			synctest.Test(t, func(t *testing.T) {
				b := newTestBreaker(t, autoSlowPolicy(mode, name))
				if got := b.SlowCallDuration(); got != 5*time.Second {
					t.Errorf("%v before any call", got)
				}
				b.warmUp()
				b.want(events.Closed)
				s := b.Baseline()
				got := b.SlowCallDuration()
				if got != 100*time.Millisecond || s.SlowCallDuration != got || s.Latency.P99 < 0.00098 || s.Latency.P99 > 0.00102 {
					t.Errorf("%v, %+v", got, s)
				}
				if status := b.Status(); status.Latency != s.Latency || status.AutoSlowCall != got || (status.Adaptive == nil) != (mode == adaptive.Off) {
					t.Errorf("%+v", status)
				}
				for b.State() == events.Closed && b.Status().Window.Requests < 200 { // these are learnt, too, but at most twofold
					b.call(1, true, 300*time.Millisecond)
				}
				b.want(events.Open)
				c := b.change.Load()
				if want := map[string]events.Cause{"expression": events.CauseExpression}[name]; want != "" && c.Cause != want {
					t.Errorf("%+v", c)
				} else if want == "" && (c.Cause != events.CauseSlowCallRatio || !strings.HasSuffix(c.Failure.Detail, "took 200ms or longer")) {
					t.Errorf("%+v, %+v", c, c.Failure)
				}
			})
		}
	}
}

// The learnt duration survives a restart and other policies, and a reset forgets it.
func TestLearntSlowCallDurationIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const want = 100 * time.Millisecond
		p := autoSlowPolicy(adaptive.Off, "ratio")
		b := newTestBreaker(t, p)
		b.warmUp()
		record, err := b.BaselineRecord()
		if err != nil {
			t.Fatal(err)
		}
		restored := newTestBreaker(t, p)
		if err := restored.RestoreBaseline(record); err != nil || restored.SlowCallDuration() != want || restored.Baseline().Latency != b.Baseline().Latency {
			t.Errorf("%v, restored %+v, was %+v", err, restored.Baseline(), b.Baseline())
		}
		fixed := p
		fixed.SlowCall, fixed.SlowCallDuration = adaptive.SlowCall{}, 3*time.Second
		if b.SetPolicy(fixed); b.SlowCallDuration() != 3*time.Second || b.Baseline().SlowCallDuration != 3*time.Second {
			t.Errorf("a fixed one: %v", b.SlowCallDuration())
		}
		if b.SetPolicy(p); b.SlowCallDuration() != want {
			t.Errorf("automatic again: %v", b.SlowCallDuration())
		}
		short := p
		short.SlowCall = adaptive.SlowCall{Default: 40 * time.Millisecond, Max: 40 * time.Millisecond}
		if b.SetPolicy(short); b.SlowCallDuration() != 40*time.Millisecond {
			t.Errorf("a shorter timeout: %v", b.SlowCallDuration())
		}
		b.SetPolicy(p)
		if b.ResetBaseline(); b.SlowCallDuration() != 5*time.Second || b.Baseline().Latency != (events.Latency{}) {
			t.Errorf("after a reset: %v", b.SlowCallDuration())
		}
	})
}

// Each success lowers the evidence, also at a rate at which most successes are counted without a lock.
func TestEachSuccessIsEvidence(t *testing.T) {
	b := newTestBreaker(t, adaptivePolicy(adaptive.Shadow))
	b.call(20_000, true, time.Millisecond)
	b.call(3, false, time.Millisecond)
	if got := b.Baseline().Evidence; got < 0.5 {
		t.Errorf("evidence %v of three failures", got)
	}
	if b.call(31, true, time.Millisecond); b.Baseline().Evidence != 0 {
		t.Errorf("evidence %v after 31 successes", b.Baseline().Evidence)
	}
}

// Calls that are counted without a lock are all counted, and those while the breaker is not closed are not.
func TestEachCallIsLearntOnce(t *testing.T) {
	b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
	for round := 1; round <= 3; round++ {
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() { b.call(5000, true, time.Millisecond) })
		}
		workers.Wait()
		if got := b.Baseline().Calls; got != uint64(20_000*round) {
			t.Errorf("%d calls were learnt in %d rounds", got, round)
		}
	}
	b.Force(events.Closed, 0, "")
	b.call(5000, true, time.Millisecond)
	b.Release("")
	b.call(5000, true, time.Millisecond) // within a minute
	if got := b.Baseline().Calls; got != 60_000 {
		t.Errorf("%d calls were learnt, of 60000", got)
	}
}
