package adaptive

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// poisoner is a client that makes calls fail, and wants a learner to take that for normal. It knows all that the learner knows, and lets
// a call fail whenever this teaches the learner one more failure and can't open the breaker.
type poisoner struct {
	learner  *Learner
	now      time.Duration
	interval time.Duration // between all calls, its own and those of other clients, which succeed
	calls    int
	failures int // that it has made
}

// call makes the next call, which fails if the poisoner wants that.
func (p *poisoner) call(t *testing.T) {
	t.Helper()
	l := p.learner
	p.now += p.interval
	next := l.detector
	next.observe(&l.likelihoods, true)
	b := &l.baseline
	calls, failures := b.newCalls, b.newFailures
	if p.now-b.start >= period {
		calls, failures = 0, 0
	}
	learnt := next.evidence(&l.likelihoods) <= maxEvidence
	failed := learnt && float64(failures+1) <= l.options.Cap*float64(calls+1)
	p.calls++
	if failed {
		p.failures++
	}
	if l.Observe(p.now, failed, false) != Nothing {
		t.Fatalf("the poisoner has opened the breaker after %v", p.now)
	}
}

// copyOf returns a learner that has learnt the same.
func copyOf(t *testing.T, l *Learner, now time.Duration) *Learner {
	t.Helper()
	record := recordOf(l, now)
	c := NewLearner(l.options)
	if err := c.Restore(now, record); err != nil {
		t.Fatal(err)
	}
	return c
}

// callsToOpenOf returns the number of calls after which a copy of l opens the breaker if every n-th call fails, the first one included; 0
// if it does not within ten thousand calls.
func callsToOpenOf(t *testing.T, l *Learner, now time.Duration, n int) int {
	t.Helper()
	c := copyOf(t, l, now)
	for i := range 10_000 {
		if c.Observe(now, i%n == 0, false) == Open {
			return i + 1
		}
	}
	return 0
}

// The table in docs/learning.md, section “Hostile clients”: how long it takes a client to move what was learnt in a week without failures,
// with how many failures of its own, and how late the breaker opens then.
func TestSlowPoisoning(t *testing.T) {
	type row struct {
		ratio    float64
		hours    float64 // at least
		failures int     // at least
		opens    [3]int  // calls after which the breaker opens, if all fail, half, or a third
		fifth    int     // at least, if a fifth fails, or never
	}
	o := defaults
	o.MinCalls = 50
	for _, test := range []struct {
		name     string
		interval time.Duration // between the calls of the client and of others together; before, there was one call a second
		rows     []row
	}{
		{"the client's calls replace those of others", time.Second, []row{{0.02, 7.5, 2600, [3]int{7, 51, 52}, 60}, {0.04, 17, 6000, [3]int{10, 51, 52}, 110}, {0.08, 53, 19_000, [3]int{13, 51, 67}, 680}, {0.1, 149, 53_000, [3]int{14, 51, 91}, 1000}}},
		{"ten times the calls of others", 100 * time.Millisecond, []row{{0.02, 0.8, 3000, [3]int{7, 51, 52}, 60}, {0.04, 2, 7500, [3]int{10, 51, 52}, 110}, {0.08, 11, 40_000, [3]int{13, 51, 67}, 680}}},
		{"a hundred times the calls of others", 10 * time.Millisecond, []row{{0.02, 0.08, 3000, [3]int{7, 51, 52}, 60}, {0.04, 0.99, 35_000, [3]int{10, 51, 52}, 110}, {0.08, 1.99, 70_000, [3]int{13, 51, 67}, 680}}},
	} {
		l, now := NewLearner(o), time.Duration(0)
		for range 7 * 24 * 3600 {
			now += time.Second
			l.Observe(now, false, false)
		}
		p := &poisoner{learner: l, now: now, interval: test.interval}
		for _, r := range test.rows {
			for l.FailureRatio() < r.ratio {
				if p.call(t); p.calls > 2_000_000 {
					t.Fatalf("%s: p0 is %v after %d calls", test.name, l.FailureRatio(), p.calls)
				}
			}
			hours := (p.now - now).Hours()
			var opens [3]int
			for i := range opens {
				opens[i] = callsToOpenOf(t, l, p.now, i+1)
			}
			fifth := callsToOpenOf(t, l, p.now, 5)
			if hours < r.hours || p.failures < r.failures || opens != r.opens || fifth > 0 && fifth < r.fifth {
				t.Errorf("%s: p0 %v after %.3f hours and %d failures of %d calls; opens after %v calls, or %d if a fifth fails",
					test.name, r.ratio, hours, p.failures, p.calls, opens, fifth)
			}
		}
	}
}

// What a client can teach at most, with the default cap: it takes a new service, of which nothing else was learnt.
func TestPoisoningOfANewServiceIsLimited(t *testing.T) {
	for _, interval := range []time.Duration{10 * time.Minute, time.Minute, time.Second} {
		l := NewLearner(defaults)
		p, largest := &poisoner{learner: l, interval: interval}, 0.0
		for range 200_000 {
			p.call(t)
			largest = max(largest, l.FailureRatio())
		}
		if n := callsToOpenOf(t, l, p.now, 1); largest > 0.12 || n == 0 || n > 14 {
			t.Errorf("a call each %v: p0 has reached %v; the breaker opens after %d failures in a row", interval, largest, n)
		}
	}
}

// Whatever was learnt, 15 failures in a row open the breaker.
func TestFailuresInARowOpenWhateverWasLearnt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := defaults
		o.Cap = rapid.Float64Range(0.01, 0.5).Draw(rt, "cap")
		o.MinCalls = 50
		l, now := NewLearner(o), time.Duration(0)
		for range 400 { // the warmup
			now += 10 * time.Second
			l.Observe(now, false, false)
		}
		for range rapid.IntRange(1, 20).Draw(rt, "hours") {
			every := rapid.IntRange(2, 200).Draw(rt, "failEvery")
			for i := range 360 {
				now += 10 * time.Second
				l.Observe(now, i%every == 0, false)
			}
		}
		for range 1000 { // the evidence and the warmup end
			now += 10 * time.Second
			l.Observe(now, false, false)
		}
		if n := callsToOpenOf(t, l, now, 1); n == 0 || n > 15 {
			rt.Fatalf("p0 %v: opened after %d failures in a row", l.FailureRatio(), n)
		}
	})
}

// Hours with more failures than Cap, of which each is so far from the others that the evidence stays low, are not learnt.
func TestHoursAboveCapAreNotLearnt(t *testing.T) {
	o := defaults
	o.Floor = 0.02 // at which a ratio of two failures in 19 calls leaves the evidence below one half
	l, now := learned(o, 0)
	before := l.Status(now)
	evidence := 0.0
	for i := range 20 * 3600 {
		now += time.Second
		l.Observe(now, i%19 == 8 || i%19 == 18, false)
		evidence = max(evidence, l.Evidence())
	}
	l.Observe(now+time.Hour, false, false)
	after := l.Status(now + time.Hour)
	if evidence > maxEvidence || after.FailureRatio != before.FailureRatio || after.Calls > before.Calls+1 {
		t.Errorf("learnt %v from %d calls, before %v from %d; evidence %v", after.FailureRatio, after.Calls, before.FailureRatio, before.Calls, evidence)
	}
}

// What a learner needs does not depend on the number of calls or the time.
func TestMemoryOfALearnerIsConstant(t *testing.T) {
	l, now := learned(defaults, 50)
	first := recordOf(l, now)
	i := 0
	allocations := testing.AllocsPerRun(200_000, func() {
		now += 10 * time.Second
		i++
		l.Observe(now, i%50 == 0 || i%5000 < 20, false)
		l.Recovered(now)
	})
	last := recordOf(l, now)
	if allocations > 0 || len(last) > len(first)+64 || unsafe.Sizeof(*l) > 1024 {
		t.Errorf("%v allocations a call; record of %d bytes, before %d; %d bytes", allocations, len(last), len(first), unsafe.Sizeof(*l))
	}
}

// A client whose calls are slow, or fast, moves the duration from which on a call is slow: its share of the calls determines how long that
// takes. Before, all calls took 100 ms for a day.
func TestDurationsOfAHostileClient(t *testing.T) {
	for _, test := range []struct {
		permille int           // of the calls are of the client
		took     time.Duration // by each of them; the others still take 100 ms
		want     time.Duration // from which on a call is slow; 0 if that does not change
		hours    float64       // after which it is
	}{
		{500, 24 * time.Second, 24 * time.Second, 6},
		{100, 24 * time.Second, 24 * time.Second, 8},
		{20, 24 * time.Second, 24 * time.Second, 18},
		{8, 24 * time.Second, 0, 0},
		{980, time.Millisecond, 0, 0},
		{995, time.Millisecond, minSlowCall, 24},
	} {
		l, now := learnedDurations(defaults, thirtySeconds, 24, 100*time.Millisecond)
		begin, first, hours := now, l.SlowCallDuration(), 0.0
		for i := 0; now-begin < 48*time.Hour && hours == 0; i++ {
			now += 10 * time.Second
			took := 100 * time.Millisecond
			if i*37%1000 < test.permille {
				took = test.took
			}
			if succeed(l, now, took); l.SlowCallDuration() == test.want {
				hours = (now - begin).Hours()
			}
		}
		if test.want == 0 && l.SlowCallDuration() != first || math.Abs(hours-test.hours) > 0.5 {
			t.Errorf("%d of 1000 calls take %v: a call is slow from %v on, before from %v on; after %.2f hours",
				test.permille, test.took, l.SlowCallDuration(), first, hours)
		}
	}
}
