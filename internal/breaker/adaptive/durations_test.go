package adaptive

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// succeed observes a success with a duration. It returns what ObserveDuration does.
func succeed(l *Learner, now, took time.Duration) (skip int) {
	l.Observe(now, false, false)
	return l.ObserveDuration(now, took)
}

// latencyOf returns the latency as of now: the learner updates it after a share of the calls only.
func latencyOf(l *Learner, now time.Duration) Latency {
	l.SetSlowCall(now, l.durations.slowCall)
	return l.Status(now).Latency
}

// quantile returns the q-quantile of durations in seconds.
func quantile(took []time.Duration, q float64) float64 {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[int(q*float64(len(sorted)-1))].Seconds()
}

// checkLatency checks that got has the quantiles of durations, each with a rank that is wrong by at most ranks.
func checkLatency(t rapid.TB, got Latency, took []time.Duration, ranks float64) {
	t.Helper()
	if len(took) == 0 {
		if got != (Latency{}) {
			t.Fatalf("%+v without calls", got)
		}
		return
	}
	for q, value := range map[float64]float64{0.5: got.P50, 0.95: got.P95, 0.99: got.P99} {
		least, most := quantile(took, q-ranks)*(1-accuracy-1e-9), quantile(took, q+ranks)*(1+accuracy+1e-9)
		if value < least || value > most {
			t.Fatalf("the %v quantile of %d durations is %v, want %v to %v", q, len(took), value, least, most)
		}
	}
}

// The quantiles are those of the last 24 hours with calls and of the current one, without the hours with many failures.
func TestQuantilesOfDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := NewLearner(defaults), time.Duration(0)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var past [][]time.Duration
		for range rapid.IntRange(1, 30).Draw(t, "hours") {
			var hour []time.Duration
			longest := math.Log(float64(rapid.IntRange(3, 30_000).Draw(t, "longest")))
			failEvery := rapid.SampledFrom([]int{0, 0, 30, 7}).Draw(t, "failEvery")
			for i := range rapid.IntRange(1, allSampled).Draw(t, "calls") {
				now += time.Second
				if failEvery > 0 && i%failEvery == 3 {
					l.Observe(now, true, false)
					continue
				}
				took := time.Duration(2 * math.Exp(random.Float64()*longest) * float64(time.Millisecond))
				if succeed(l, now, took); l.learnt { // not if the evidence prevents it
					hour = append(hour, took)
				}
			}
			healthy := float64(l.durations.newFailures) <= defaults.Cap*float64(l.durations.newCalls)
			if !healthy {
				hour = nil
			}
			checkLatency(t, latencyOf(l, now), slices.Concat(append(slices.Clone(past), hour)...), 0)
			if now += time.Duration(rapid.IntRange(1, 100).Draw(t, "pause")) * time.Hour; len(hour) > 0 {
				past = append(past, hour)
				past = past[max(0, len(past)-24):]
			}
		}
	})
}

// An hour counts until there were 24 others with calls.
func TestOldDurationsAreForgotten(t *testing.T) {
	l, now := NewLearner(defaults), time.Duration(0)
	for range 10 {
		succeed(l, now, time.Second)
	}
	for range 24 {
		for range 10 {
			now += 7 * time.Minute
			succeed(l, now, 10*time.Millisecond)
		}
		if got := latencyOf(l, now).P99; len(l.durations.past) < learntHours && got < 0.9 {
			t.Fatalf("p99 %v after %v", got, now)
		}
	}
	if got := latencyOf(l, now).P99; got > 0.011 {
		t.Errorf("p99 %v after %v", got, now)
	}
}

// Of many calls, a part is enough.
func TestQuantilesOfManyDurations(t *testing.T) {
	l, now := NewLearner(defaults), time.Duration(0)
	random := rand.New(rand.NewPCG(1, 1))
	var took []time.Duration
	added, skip := 0, 0
	for i := range 1_000_000 {
		now += 5 * time.Millisecond
		d := time.Duration(math.Exp(random.NormFloat64()) * float64(50*time.Millisecond))
		if i > 600_000 { // the later ones are slower
			d *= 2
		}
		took = append(took, d)
		switch {
		case skip == 0:
			skip = succeed(l, now, d)
			added++
		case l.Quiet(now):
			l.ObserveSuccesses(now, 1)
			skip--
		default:
			t.Fatal("a success has changed something")
		}
	}
	checkLatency(t, latencyOf(l, now), took, 0.003)
	if got := l.Status(now).Calls; added > 15_000 || got != uint64(len(took)) {
		t.Errorf("%d durations of %d calls were added", added, got)
	}
}

// A service takes little memory whatever the durations of its calls, and the long ones are exact.
func TestMemoryOfDurationsIsBounded(t *testing.T) {
	l, now := NewLearner(defaults), time.Duration(0)
	random := rand.New(rand.NewPCG(1, 2))
	var took []time.Duration
	for range 30 {
		for range 1000 {
			now += time.Second
			d := time.Duration(math.Exp(random.Float64() * math.Log(float64(1000*time.Hour)))) // from 1 ns on
			succeed(l, now, d)
			took = append(took, d)
		}
		now += time.Hour
	}
	if got, want := latencyOf(l, now).P99, quantile(took, 0.99); math.Abs(got-want) > 0.1*want {
		t.Errorf("p99 %v, want %v", got, want)
	}
	if n := len(recordOf(l, now)); n > 64<<10 {
		t.Errorf("the record has %d bytes", n)
	}
	for _, b := range append(l.durations.past, binsOf(l.durations.ofPast), binsOf(l.durations.sum)) {
		if len(b.Counts) > maxBins || !b.valid() {
			t.Errorf("%d bins from %d on", len(b.Counts), b.First)
		}
	}
}

// Durations are learnt when failures are.
func TestDurationsThatAreNotLearnt(t *testing.T) {
	start := func() (*Learner, time.Duration) {
		l, now := learned(defaults, 0)
		for now += time.Hour; now%time.Hour < time.Minute; now += time.Second {
			succeed(l, now, 10*time.Millisecond)
		}
		return l, now
	}
	for name, observe := range map[string]func(l *Learner, now time.Duration){
		"above half of the evidence": func(l *Learner, now time.Duration) {
			for range 5 {
				l.Observe(now, true, false)
			}
			succeed(l, now, time.Second)
		},
		"within a minute of a recovery": func(l *Learner, now time.Duration) {
			l.Recovered(now)
			succeed(l, now+recoveryTime-1, time.Second)
		},
		"injected": func(l *Learner, now time.Duration) {
			l.Observe(now, false, true)
			l.ObserveDuration(now, time.Second)
		},
		"an hour with many failures": func(l *Learner, now time.Duration) {
			now += 2 * time.Hour
			l.Observe(now, true, false)
			l.Observe(now, true, false)
			for range 15 {
				succeed(l, now, time.Second)
			}
			now += 2 * time.Hour
			succeed(l, now, 10*time.Millisecond)
		},
		"before a reset": func(l *Learner, now time.Duration) {
			succeed(l, now, time.Second)
			l.Reset(now)
			succeed(l, now, 10*time.Millisecond)
		},
	} {
		l, now := start()
		observe(l, now)
		if got := latencyOf(l, now); math.Abs(got.P99-0.01) > 0.01*accuracy*1.01 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	l, now := start()
	l.Recovered(now)
	now += recoveryTime
	succeed(l, now, time.Second)
	if got := latencyOf(l, now); got.P99 > 0.011 || l.durations.newCalls != 61 {
		t.Errorf("a minute after a recovery: %+v", got)
	}
}
