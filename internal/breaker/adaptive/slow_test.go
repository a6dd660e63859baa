package adaptive

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// thirtySeconds is that of a route with a timeout of 30 s.
var thirtySeconds = SlowCall{Default: 5 * time.Second, Max: 24 * time.Second}

// learnedDurations returns a learner that has seen hours of successes with one duration, one in ten seconds, and the time.
func learnedDurations(o Options, s SlowCall, hours int, took time.Duration) (l *Learner, now time.Duration) {
	l = NewLearner(o)
	l.SetSlowCall(0, s)
	for range max(hours*360-1, 0) {
		now += 10 * time.Second
		succeed(l, now, took)
	}
	return l, now
}

func TestSlowCallDurationIsLearnt(t *testing.T) {
	off := defaults
	off.Mode = Off
	slowToWarm := defaults
	slowToWarm.WarmupTime = 48 * time.Hour
	for _, test := range []struct {
		name    string
		options Options
		slow    SlowCall
		hours   int
		took    time.Duration
		want    time.Duration // about
		text    string        // of the explanation
	}{
		{"three times the p99", defaults, thirtySeconds, 2, 200 * time.Millisecond, 600 * time.Millisecond, "on, three times the p99 learnt"},
		{"with the mode off", off, thirtySeconds, 2, 200 * time.Millisecond, 600 * time.Millisecond, "off: only durations are learnt; a call is slow from "},
		{"the least", defaults, thirtySeconds, 2, time.Millisecond, minSlowCall, "from 100ms on, the least possible; three times the p99 learnt is 3ms"},
		{"0.8 of the timeout", defaults, SlowCall{time.Second, time.Second}, 2, 400 * time.Millisecond, time.Second, "from 1s on, 0.8 of timeout; three times the p99 learnt is 1.1"},
		{"a short timeout", defaults, SlowCall{80 * time.Millisecond, 80 * time.Millisecond}, 2, time.Millisecond, 80 * time.Millisecond, "from 80ms on, 0.8 of timeout; three times the p99 learnt is 3ms"},
		{"a slow upstream, in the first hour", defaults, thirtySeconds, 1, 7 * time.Second, 10 * time.Second, "from 10s on, and at most twice that in the next hour; three times the p99 learnt is 2"},
		{"a slow upstream, later", defaults, thirtySeconds, 4, 7 * time.Second, 21 * time.Second, "three times the p99 learnt"},
		{"not warm", slowToWarm, thirtySeconds, 2, 200 * time.Millisecond, 5 * time.Second, "a call is slow from 5s on, until calls of 1h59m40s of 48h0m0s are learnt"},
		{"no call", defaults, thirtySeconds, 0, 0, 5 * time.Second, "a call is slow from 5s on, until 0 of 200 calls are learnt"},
		{"not automatic", defaults, SlowCall{}, 2, 200 * time.Millisecond, 0, "half fail"},
	} {
		l, now := learnedDurations(test.options, test.slow, test.hours, test.took)
		got, tolerance := l.SlowCallDuration(), time.Duration(float64(test.want)*accuracy)
		if s := l.Status(now); got < test.want-tolerance || got > test.want+tolerance || got != s.SlowCallDuration || !strings.Contains(s.Explanation, test.text) {
			t.Errorf("%s: %v, want %v: %+v", test.name, got, test.want, s)
		}
	}
}

// An upstream that becomes slower does not raise the duration quickly.
func TestSlowCallDurationRisesAtMostTwofoldAnHour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := defaults
		o.WarmupCalls, o.WarmupTime = rapid.IntRange(0, 500).Draw(t, "warmup"), 0
		l, now := NewLearner(o), time.Duration(0)
		l.SetSlowCall(now, thirtySeconds)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		before := thirtySeconds.Default // at the start of the hour
		for range rapid.IntRange(1, 12).Draw(t, "hours") {
			longest := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "longest"))
			for range 720 {
				now += 5 * time.Second
				start, wasWarm := l.durations.start, l.durations.warm
				succeed(l, now, time.Duration(random.Int64N(int64(longest))+1))
				got := l.SlowCallDuration()
				if l.durations.start != start || !wasWarm && l.durations.warm {
					before = min(got, 2*before)
				}
				if got > 2*before || got < minSlowCall || got > thirtySeconds.Max {
					t.Fatalf("%v after %v", got, before)
				}
			}
		}
	})
}

// A change of the configuration is in force at once, and what was learnt is kept.
func TestSlowCallDurationFollowsTheConfiguration(t *testing.T) {
	about := func(l *Learner, want time.Duration) {
		t.Helper()
		if got := l.SlowCallDuration(); got < want*98/100 || got > want*102/100 {
			t.Errorf("%v, want %v", got, want)
		}
	}
	l, now := learnedDurations(defaults, SlowCall{}, 5, 500*time.Millisecond)
	l.SetSlowCall(now, thirtySeconds)
	about(l, 1500*time.Millisecond)
	l.SetSlowCall(now, SlowCall{Default: 800 * time.Millisecond, Max: 800 * time.Millisecond})
	about(l, 800*time.Millisecond)
	l.SetSlowCall(now, thirtySeconds)
	about(l, 1500*time.Millisecond)
	o := defaults
	o.WarmupCalls = 1e6
	l.Configure(o)
	l.SetSlowCall(now, thirtySeconds)
	about(l, 5*time.Second)
	if l.SetSlowCall(now, SlowCall{}); l.SlowCallDuration() != 0 {
		t.Errorf("not learnt, and %v", l.SlowCallDuration())
	}
}

// A restart is no way to let it rise faster.
func TestSlowCallDurationRisesAtMostTwofoldAfterARestart(t *testing.T) {
	l, now := learnedDurations(defaults, thirtySeconds, 2, 200*time.Millisecond)
	for range 100 {
		succeed(l, now, 10*time.Second)
	}
	before := l.SlowCallDuration()
	restored := NewLearner(defaults)
	restored.SetSlowCall(0, thirtySeconds)
	if err := restored.Restore(0, recordOf(l, now)); err != nil || restored.SlowCallDuration() != before || before > 1300*time.Millisecond {
		t.Errorf("%v, before %v: %v", restored.SlowCallDuration(), before, err)
	}
}

// With the mode off, failures prevent that durations are learnt, and do nothing else.
func TestOnlyDurationsAreLearntWithTheModeOff(t *testing.T) {
	off := defaults
	off.Mode = Off
	l, now := learnedDurations(off, thirtySeconds, 2, 10*time.Millisecond)
	for range 1000 {
		now += time.Second
		if l.Observe(now, true, false) != Nothing {
			t.Fatal("failures have an effect")
		}
	}
	for range 3 {
		succeed(l, now, time.Minute)
	}
	s := l.Status(now)
	if latencyOf(l, now).P99 > 0.0103 || s.FailureRatio != 0 || s.Calls != 0 || s.Evidence != 0 || s.Warm || s.Openings != (Openings{}) {
		t.Errorf("%+v", s)
	}
	// The failures are no evidence with another mode.
	if l.Configure(defaults); l.Evidence() != 0 {
		t.Errorf("evidence %v", l.Evidence())
	}
}
