package adaptive

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// openBy makes calls fail until the evidence opens the breaker.
func openBy(t *testing.T, l *Learner, now *time.Duration, injected bool) {
	t.Helper()
	for range 100 {
		*now += time.Second
		if l.Observe(*now, true, injected) == Open {
			return
		}
	}
	t.Fatal("not opened by 100 failures")
}

func TestVerdictsOnOpenings(t *testing.T) {
	for _, test := range []struct {
		name     string
		injected bool
		earlier  bool
		after    func(l *Learner)
		want     Openings
	}{
		{"first probe succeeds", false, true, func(l *Learner) { l.Probed(false) }, Openings{Refuted: 1}},
		{"first probe fails", false, true, func(l *Learner) { l.Probed(true) }, Openings{Earlier: 1}},
		{"other limits would not have opened", false, false, func(l *Learner) { l.Probed(true) }, Openings{OnlyAdaptive: 1}},
		{"only the first probe counts", false, true, func(l *Learner) { l.Probed(true); l.Probed(false) }, Openings{Earlier: 1}},
		{"no probe", false, true, func(*Learner) {}, Openings{}},
		{"forced before the probe", false, true, func(l *Learner) { l.Interrupted(); l.Probed(false) }, Openings{}},
		{"injected", true, true, func(l *Learner) { l.Probed(false) }, Openings{}},
	} {
		l, now := learned(defaults, 0)
		openBy(t, l, &now, test.injected)
		l.OpenedByEvidence(test.earlier)
		test.after(l)
		l.Recovered(now)
		if got := l.Status(now).Openings; got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestVerdictsInShadowMode(t *testing.T) {
	shadow := defaults
	shadow.Mode = Shadow
	off := defaults
	off.Mode = Off
	succeed := func(l *Learner, now time.Duration) {
		for range 200 {
			l.Observe(now, false, false)
		}
	}
	for _, test := range []struct {
		name     string
		injected bool
		after    func(l *Learner, now time.Duration)
		want     Openings
	}{
		{"another limit opens", false, func(l *Learner, _ time.Duration) { l.OpenedByLimit() }, Openings{Earlier: 1}},
		{"the failures end", false, succeed, Openings{OnlyAdaptive: 1}},
		{"opened after the failures have ended", false, func(l *Learner, now time.Duration) { succeed(l, now); l.OpenedByLimit() }, Openings{OnlyAdaptive: 1}},
		{"forced", false, func(l *Learner, now time.Duration) { l.Interrupted(); l.Recovered(now); succeed(l, now) }, Openings{}},
		{"injected", true, succeed, Openings{}},
		{"opened while off", false, func(l *Learner, _ time.Duration) { l.Configure(off); l.OpenedByLimit() }, Openings{}},
		{"off in between", false, func(l *Learner, now time.Duration) { l.Configure(off); l.Configure(shadow); succeed(l, now) }, Openings{}},
		{"no end yet", false, func(*Learner, time.Duration) {}, Openings{}},
		{"probes have no verdict", false, func(l *Learner, _ time.Duration) { l.OpenedByLimit(); l.Probed(false) }, Openings{Earlier: 1}},
	} {
		l, now := learned(shadow, 0)
		reports := 0
		for range 1000 { // a long incident is one
			now += time.Second
			switch l.Observe(now, true, test.injected) {
			case Open:
				t.Fatalf("%s: opened", test.name)
			case Shadowed:
				reports++
			}
		}
		test.after(l, now)
		if got := l.Status(now).Openings; got != test.want || reports != 1 {
			t.Errorf("%s: %+v, want %+v; %d reports", test.name, got, test.want, reports)
		}
	}
}

// A demotion is caused by exactly the fourth refuted one of the last ten openings.
func TestDemotion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLearner(defaults)
		var last []bool
		for _, refuted := range rapid.SliceOfN(rapid.Bool(), 0, 60).Draw(t, "refuted") {
			l.OpenedByEvidence(false)
			demoted := l.Probed(!refuted)
			last = append(last, refuted)
			n := 0
			for _, r := range last[max(0, len(last)-10):] {
				if r {
					n++
				}
			}
			if demoted != (n > 3) || demoted != l.Status(0).Demoted || demoted != (l.Mode() == Shadow) {
				t.Fatalf("%v: demoted %v, %+v", last, demoted, l.Status(0))
			}
			if !demoted {
				continue
			}
			other := defaults
			other.MinRatio = 0.3
			if l.Configure(defaults); !l.Status(0).Demoted {
				t.Fatal("ended by the same configuration")
			}
			switch rapid.SampledFrom([]string{"reset", "configuration", "confirmation"}).Draw(t, "end") {
			case "reset":
				l.Reset(0)
			case "configuration":
				l.Configure(other)
				l.Configure(defaults)
			default:
				if l.OpenedByLimit() {
					t.Fatal("ended by an opening without evidence")
				}
				l.record.begin(false)
				if !l.OpenedByLimit() {
					t.Fatal("not ended by an opening after evidence")
				}
			}
			if l.Status(0).Demoted || l.Mode() != Enforce {
				t.Fatal("not ended")
			}
			last = nil
		}
	})
}

func TestExplanation(t *testing.T) {
	shadow, many, long, never, off := defaults, defaults, defaults, defaults, defaults
	shadow.Mode = Shadow
	many.WarmupCalls = 1e6
	long.WarmupTime = 100 * time.Hour
	never.MinRatio = 0.6
	off.Mode = Off
	burst := defaults
	burst.MinCalls = 50
	for _, test := range []struct {
		options Options
		want    string
	}{
		{defaults, "fails at most 1 in 100 when healthy; opens after 6 failures in a row, or 11 calls of which half fail"},
		{shadow, "fails at most 1 in 100 when healthy; would open after 6 failures in a row, or 11 calls of which half fail"},
		{never, "fails at most 1 in 100 when healthy; opens after 6 failures in a row"},
		{burst, "fails at most 1 in 100 when healthy; opens after 6 failures in a row, or 51 calls of which half fail"},
		{many, "still learning: 86400 of 1000000 calls"},
		{long, "still learning: calls of 23h59m59s of 100h0m0s"},
		{off, "off: nothing is learnt"},
	} {
		l, now := learned(test.options, 0)
		if got := l.Status(now).Explanation; got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	l, now := learned(defaults, 0)
	for range 4 {
		l.OpenedByEvidence(true)
		l.Probed(false)
	}
	if got := l.Status(now).Explanation; !strings.HasSuffix(got, "; in shadow mode, because more than 3 of its last 10 openings were refuted") {
		t.Errorf("got %q", got)
	}
}
