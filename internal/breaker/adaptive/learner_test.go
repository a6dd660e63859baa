package adaptive

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var defaults = Options{Mode: Enforce, FalseAlarm: 1e-8, MinRatio: 0.2, Floor: 0.01, Cap: 0.1, WarmupCalls: 200, WarmupTime: 30 * time.Minute}

// learned returns a learner that has seen a day of calls, one a second, of which one in each failEvery failed; 0: none. It returns the
// time as well.
func learned(o Options, failEvery int) (l *Learner, now time.Duration) {
	l = NewLearner(o)
	for i := range 24 * 3600 {
		now += time.Second
		l.Observe(now, failEvery > 0 && i%failEvery == failEvery-1, false)
	}
	return l, now
}

func TestFaultIsRecognizedAsEarlyAsTheEvidenceAllows(t *testing.T) {
	for _, test := range []struct {
		name    string
		pattern string // repeated
		want    int    // calls until the fault is recognized
	}{
		{"all fail", "f", 6},
		{"half fail", "fs", 11},
		{"a third fails", "fss", 19},
		{"a fifth fails", "fssss", 41},
	} {
		l, now := learned(defaults, 0)
		got := 0
		for i := range 1000 {
			if now += time.Second; l.Observe(now, test.pattern[i%len(test.pattern)] == 'f', false) == Open {
				got = i + 1
				break
			}
		}
		if got != test.want {
			t.Errorf("%s: recognized after %d calls, want %d", test.name, got, test.want)
		}
	}
}

func TestFewFailuresAreNoFault(t *testing.T) {
	for _, failEvery := range []int{5, 10, 50, 1000} {
		o := defaults
		o.MinRatio = 0.3
		l, now := learned(o, 0)
		for i := range 100_000 {
			now += time.Second
			if l.Observe(now, i%failEvery == failEvery-1, false) != Nothing {
				t.Errorf("one failure in %d calls is recognized as a fault after %d calls", failEvery, i+1)
				break
			}
		}
	}
}

// Calls of which a part fails are no fault before there are enough of them, even if they are unlikely; a row of failures is one at once.
func TestShortBurstsAreNoFault(t *testing.T) {
	const minCalls = 50
	o := defaults
	o.MinCalls = minCalls
	for _, test := range []struct {
		name, pattern string // repeated
		want          int    // calls until the fault is recognized
	}{
		{"half fail", "fs", minCalls + 1}, // the next failure
		{"four of five fail", "ffffs", minCalls + 1},
		{"all fail", "f", 6},
		{"five failures, and then six", "fffffsffffff", 12},
	} {
		l, now := learned(o, 0)
		got := 0
		for i := 0; i < 1000 && got == 0; i++ {
			now += time.Second
			if l.Observe(now, test.pattern[i%len(test.pattern)] == 'f', false) == Open {
				got = i + 1
			}
		}
		if got != test.want {
			t.Errorf("%s: recognized after %d calls, want %d", test.name, got, test.want)
		}
	}
	// A burst that is over is not recognized afterwards.
	l, now := learned(o, 0)
	for i := range minCalls - 1 {
		now += time.Second
		l.Observe(now, i%2 == 0, false)
	}
	for range 1000 {
		now += time.Second
		if l.Observe(now, false, false) != Nothing {
			t.Fatal("a success was recognized as a fault")
		}
	}
}

func TestNothingIsRecognizedBeforeTheWarmup(t *testing.T) {
	for _, test := range []struct {
		name  string
		calls int
		pause time.Duration
		want  bool
	}{
		{"few calls", 150, time.Minute, false},
		{"not long enough", 1000, time.Second, false},
		{"enough", 200, 10 * time.Second, true},
	} {
		l, now := NewLearner(defaults), time.Duration(0)
		for range test.calls {
			now += test.pause
			l.Observe(now, false, false)
		}
		recognized := false
		for range 20 {
			now += time.Millisecond
			recognized = l.Observe(now, true, false) == Open || recognized
		}
		if recognized != test.want {
			t.Errorf("%s: recognized %v", test.name, recognized)
		}
	}
}

// The time of the warmup is that with calls: a proxy that has waited for its first call knows nothing of the service.
func TestTimeBeforeTheFirstCallIsNoWarmup(t *testing.T) {
	for _, restored := range []bool{false, true} {
		l, now := NewLearner(defaults), 45*time.Minute
		l.SetSlowCall(0, SlowCall{Default: 5 * time.Second, Max: 24 * time.Second})
		if restored {
			record, err := json.Marshal(l.Record(now))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Restore(now, record); err != nil {
				t.Fatal(err)
			}
			now += time.Minute
		}
		calls := func(n int) {
			for range n {
				now += 100 * time.Millisecond
				l.Observe(now, false, false)
				l.ObserveDuration(now, 50*time.Millisecond)
			}
		}
		if calls(250); l.Status(now).Warm || l.SlowCallDuration() != 5*time.Second {
			t.Errorf("restored %v: warm after calls of 25s: %+v", restored, l.Status(now))
		}
		now += 30 * time.Minute
		if calls(50); !l.Status(now).Warm || l.SlowCallDuration() == 5*time.Second {
			t.Errorf("restored %v: not warm after calls of half an hour: %+v", restored, l.Status(now))
		}
	}
}

func TestFailureRatioIsLearnt(t *testing.T) {
	for failEvery, want := range map[int][2]float64{
		0:   {0.01, 0.01},   // the floor
		200: {0.01, 0.01},   // 0.5 %
		50:  {0.02, 0.0225}, // an upper bound, so a little more
		20:  {0.05, 0.055},
		5:   {0.05, 0.06}, // above the cap: nothing is learnt, and the prior stays
	} {
		l, _ := learned(defaults, failEvery)
		if got := l.FailureRatio(); got < want[0] || got > want[1] {
			t.Errorf("one failure in %d calls: learnt %v, want %v", failEvery, got, want)
		}
	}
}

// What is learnt rises slowly, so that a fault that grows slowly does not pass for normal at once, and falls as calls arrive.
func TestFailureRatioRisesAtMostTwofoldAnHour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := NewLearner(defaults), time.Duration(0)
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 0))
		l.Observe(now, false, false) // the first hour begins
		before := l.baseline.before  // the ratio at the start of the hour
		for range rapid.IntRange(1, 12).Draw(t, "hours") {
			ratio := rapid.Float64Range(0, 1).Draw(t, "ratio")
			for range 3600 {
				now += time.Second
				start := l.baseline.start
				l.Observe(now, r.Float64() < ratio, false)
				if l.baseline.start != start {
					if next := l.baseline.before; next > max(2*before, defaults.Floor)*(1+1e-9) || now-start < time.Hour {
						t.Fatalf("%v after %v, in %v", next, before, now-start)
					}
					before = l.baseline.before
				}
				if got := l.FailureRatio(); got > max(2*before, defaults.Floor)*(1+1e-9) || got < defaults.Floor || got > maxRatio {
					t.Fatalf("%v after %v", got, before)
				}
			}
		}
	})
}

func TestWhatIsNotLearnt(t *testing.T) {
	// After a recovery nothing is learnt for a minute.
	l, now := learned(defaults, 0)
	l.Recovered(now)
	calls := l.baseline.newCalls + l.baseline.total
	for range 60 {
		l.Observe(now, false, false)
		now += time.Second
	}
	if got := l.baseline.newCalls + l.baseline.total; got != calls {
		t.Errorf("%d calls were learnt within a minute of a recovery", got-calls)
	}
	if l.Observe(now, false, false); l.baseline.newCalls+l.baseline.total != calls+1 {
		t.Error("nothing is learnt a minute after a recovery")
	}

	// While the evidence is above one half nothing is learnt.
	l, now = learned(defaults, 0)
	failures := uint64(0)
	for range 100 {
		if l.Observe(now, true, false); l.Evidence() <= maxEvidence {
			failures++
		}
	}
	if got := l.baseline.newFailures; got != failures || got > 3 {
		t.Errorf("%d of 100 failures in a row were learnt, want %d", got, failures)
	}
}

// A fault that opened nothing, because it was before the warm-up for example, does not count for longer than it takes to recognize it.
func TestEvidenceFallsAsSoonAsCallsSucceed(t *testing.T) {
	l, now := learned(defaults, 0)
	for range 100_000 {
		now += time.Second
		l.Observe(now, true, false)
	}
	for calls := 1; calls <= 60; calls++ {
		now += time.Second
		if l.Observe(now, false, false); l.Evidence() == 0 {
			return
		}
	}
	t.Errorf("the evidence is %v after 60 good calls", l.Evidence())
}

// The test is what its definition says.
func TestEvidenceMatchesTheDefinition(t *testing.T) {
	// The largest log likelihood ratio of any row of calls up to now, or of none; a new row begins where the evidence is complete.
	rapid.Check(t, func(t *rapid.T) {
		p0 := rapid.Float64Range(0.01, maxRatio).Draw(t, "p0")
		p1 := math.Min(math.Max(3*p0+0.1, 0.3), 0.9)
		l := likelihoodsOf(p0, 1e-8)
		var d detector
		calls := rapid.SliceOfN(rapid.Bool(), 1, 200).Draw(t, "calls")
		var ratios []float64
		for n, failed := range calls {
			d.observe(&l, failed)
			ratio := math.Log((1 - p1) / (1 - p0))
			if failed {
				ratio = math.Log(p1 / p0)
			}
			ratios = append(ratios, ratio)
			want, sum := 0.0, 0.0
			for _, r := range slices.Backward(ratios) {
				sum += r
				want = max(want, sum)
			}
			if want > math.Log(1e8) {
				want, ratios = math.Log(1e8), []float64{math.Log(1e8)}
			}
			if got := d.evidence(&l); math.Abs(got-min(want/math.Log(1e8), 1)) > 1e-6 {
				t.Fatalf("evidence %v after %d calls, want %v", got, n+1, want/math.Log(1e8))
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	l, now := learned(defaults, 100)
	i := 0
	for b.Loop() {
		now += time.Millisecond
		i++
		l.Observe(now, i%100 == 0, false)
	}
}
