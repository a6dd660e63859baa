package breaker

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// collectReports makes b collect its reports. It is called before the first call.
func collectReports(t *testing.T, p Policy) (*testBreaker, func() []events.AdaptiveReportKind) {
	var kinds []events.AdaptiveReportKind
	w := &testBreaker{t: t}
	w.Breaker = New("svc", p, func(e events.Event) {
		switch e := e.(type) {
		case events.StateChanged:
			w.change.Store(&e)
		case events.AdaptiveReport:
			if e.Service != "svc" || e.Calls == 0 && e.Report == events.AdaptiveEvidence || e.Time.IsZero() {
				t.Errorf("got %+v", e)
			}
			kinds = append(kinds, e.Report)
		}
	})
	t.Cleanup(w.Close)
	return w, func() []events.AdaptiveReportKind { return kinds }
}

// fault makes calls fail until the breaker is open.
func (w *testBreaker) fault() {
	w.t.Helper()
	for range 100 {
		if w.call(1, false, time.Millisecond); w.State() == events.Open {
			return
		}
	}
	w.t.Fatal("not opened by 100 failures")
}

func TestCallsThatAreNotLearnt(t *testing.T) {
	call := func(b *testBreaker) Call {
		c, err := b.Allow()
		if err != nil {
			b.t.Fatal(err)
		}
		return c
	}
	for name, do := range map[string]func(b *testBreaker){
		"cancelled": func(b *testBreaker) { call(b).Cancel() },
		"shed":      func(b *testBreaker) { call(b).Reject() },
		"withdrawn": func(b *testBreaker) { call(b).Withdraw() },
		"abandoned": func(b *testBreaker) { call(b).Abandon(time.Second) },
		"ignored":   func(b *testBreaker) { call(b).RetryAfter(time.Now().Add(time.Minute)) },
		"throttled": func(b *testBreaker) {
			p := b.Policy()
			p.Algorithm, p.Options, p.Window = "throttle", &algorithm.ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 1}, time.Hour
			b.SetPolicy(p)
			for range 1000 {
				if c, err := b.Allow(); err == nil {
					c.Cancel()
				}
			}
		},
		"while forced closed": func(b *testBreaker) {
			before := call(b)
			b.Force(events.Closed, 0, "")
			b.call(30, false, time.Millisecond)
			b.call(100, true, time.Second)
			time.Sleep(2 * time.Minute)
			before.Failure(&events.Failure{Type: events.ErrorReset}, time.Millisecond) // admitted by an engine that is not in use any more
			b.Release("")
		},
		"directly after a release": func(b *testBreaker) {
			b.Force(events.Closed, 0, "")
			b.Release("")
			b.call(100, true, time.Second)
		},
		"of a breaker in mode off": func(b *testBreaker) {
			p := b.Policy()
			p.Mode = Off
			b.SetPolicy(p)
			b.call(100, true, time.Second)
		},
		"of a shadow breaker that is open": func(b *testBreaker) {
			p := b.Policy()
			p.Mode = Shadow
			b.SetPolicy(p)
			b.Force(events.Open, 0, "")
			b.call(100, true, time.Second)
			b.Release("")
			synctest.Wait()
			b.call(1, true, time.Second) // the probe, which closes it
			b.want(events.Closed)
			b.call(100, true, time.Second) // within 60 s
		},
		"injected": func(b *testBreaker) {
			for range 100 {
				call(b).WithFault(true).Success(time.Second)
			}
		},
		"with adaptive off": func(b *testBreaker) {
			p := b.Policy()
			p.Adaptive.Mode = adaptive.Off
			b.SetPolicy(p)
			b.call(100, true, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
				b.warmUp()
				before := b.Baseline()
				do(b)
				if after := b.Baseline(); after.Calls != before.Calls || after.Evidence != before.Evidence || after.FailureRatio != before.FailureRatio || after.Latency != before.Latency || after.Latency.P99 == 0 {
					t.Errorf("%+v, before %+v", after, before)
				}
			})
		})
	}
}

// A breaker in shadow mode learns while it is closed, and opens as it would in the mode enforce.
func TestShadowBreakersLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := adaptivePolicy(adaptive.Enforce)
		p.Mode = Shadow
		b := newTestBreaker(t, p)
		b.warmUp()
		if got := b.Baseline(); got.Calls != 400 || !got.Warm {
			t.Errorf("got %+v", got)
		}
		b.call(6, false, time.Millisecond)
		b.want(events.Open)
	})
}

// With the mode Off of the breaker nothing is learnt, and the baseline says so. What was learnt before is kept.
func TestBaselineOfABreakerThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{RecoveryTimeout: time.Minute, HalfOpenRequests: 1}
		p.Adaptive = adaptive.Options{Mode: adaptive.Enforce, FalseAlarm: 1e-8, Floor: 0.01, Cap: 0.1, WarmupCalls: 20}
		off := p
		off.Mode = Off
		w := newTestBreaker(t, off)
		w.call(10, true, 0)
		if w.Status().Adaptive != nil {
			t.Error("off, and the status has what is learnt")
		}
		if got := w.Baseline(); got.Mode != "off" || got.FailureRatio != 0 || got.Calls != 0 || !strings.HasPrefix(got.Explanation, "off: ") {
			t.Errorf("off: %+v", got)
		}
		w.SetPolicy(p)
		w.call(30, true, 0)
		before := w.Baseline()
		w.SetPolicy(off)
		w.call(30, true, 0)
		if got := w.Baseline(); got.Mode != "off" || got.Evidence != 0 || got.Calls != before.Calls || got.FailureRatio == 0 {
			t.Errorf("off again: %+v", got)
		}
		w.SetPolicy(p)
		if got := w.Baseline(); got.Mode != "enforce" || got.Calls != before.Calls || !got.Warm {
			t.Errorf("enforced again: %+v, want %+v", got, before)
		}
	})
}

func TestShadowReportsEachIncidentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := adaptivePolicy(adaptive.Shadow)
		p.FailMax = 0
		b, reports := collectReports(t, p)
		b.warmUp()
		b.call(50, false, time.Millisecond)
		b.call(100, true, time.Millisecond)
		b.call(50, false, time.Millisecond)
		b.want(events.Closed)
		want := []events.AdaptiveReportKind{events.AdaptiveEvidence, events.AdaptiveEvidence}
		if got := b.Baseline(); !slices.Equal(reports(), want) || got.Openings != (events.AdaptiveOpenings{OnlyAdaptive: 1}) {
			t.Errorf("%v, %+v", reports(), got)
		}
		p.FailMax = 20
		b.SetPolicy(p)
		b.fault()
		if got := b.Baseline(); got.Openings != (events.AdaptiveOpenings{OnlyAdaptive: 1, Earlier: 1}) {
			t.Errorf("%+v", got)
		}
	})
}

func TestVerdictsOfABreaker(t *testing.T) {
	for name, test := range map[string]struct {
		failMax int
		force   bool
		probe   bool // succeeds
		want    events.AdaptiveOpenings
	}{
		"earlier":       {20, false, false, events.AdaptiveOpenings{Earlier: 1}},
		"only adaptive": {0, false, false, events.AdaptiveOpenings{OnlyAdaptive: 1}},
		"refuted":       {20, false, true, events.AdaptiveOpenings{Refuted: 1}},
		"forced":        {20, true, true, events.AdaptiveOpenings{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := adaptivePolicy(adaptive.Enforce)
			p.FailMax = test.failMax
			b := newTestBreaker(t, p)
			b.warmUp()
			b.fault()
			if test.force {
				b.Force(events.Open, 0, "")
				b.Release("")
				synctest.Wait()
			} else {
				b.waitHalfOpen()
			}
			b.call(1, test.probe, time.Millisecond)
			if !test.probe { // later ones have no verdict
				b.recover()
			}
			if got := b.Baseline(); got.Openings != test.want {
				t.Errorf("%s: %+v, want %+v", name, got.Openings, test.want)
			}
		})
	}
}

// The fourth refuted opening demotes to shadow mode, which a changed configuration ends, and a reset.
func TestRefutedOpeningsDemote(t *testing.T) {
	for _, reset := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := adaptivePolicy(adaptive.Enforce)
			b, reports := collectReports(t, p)
			b.warmUp()
			for n := 1; n <= 4; n++ {
				if b.call(6, false, time.Millisecond); b.Baseline().Demoted {
					t.Fatalf("demoted before opening %d", n)
				}
				b.recover()
			}
			if got := b.Baseline(); !got.Demoted || got.Mode != "shadow" || got.Openings.Refuted != 4 || !slices.Equal(reports(), []events.AdaptiveReportKind{events.AdaptiveDemoted}) {
				t.Errorf("%+v, %v", got, reports())
			}
			b.call(19, false, time.Millisecond)
			b.want(events.Closed)
			b.call(1, true, time.Millisecond)
			if n := len(reports()); n != 2 {
				t.Errorf("reports %v", reports())
			}
			b.call(20, false, time.Millisecond) // fail_max confirms the evidence
			b.want(events.Open)
			if got := b.Baseline(); got.Demoted || got.Mode != "enforce" || got.Openings.Earlier != 1 || reports()[2] != events.AdaptiveRestored {
				t.Errorf("after another limit has opened the breaker: %+v, %v", got, reports())
			}
			b.recover()
			for range 4 {
				b.call(6, false, time.Millisecond)
				b.recover()
			}
			p.RecoveryTimeout++
			if b.SetPolicy(p); !b.Baseline().Demoted {
				t.Error("another key has ended the demotion")
			}
			if reset {
				b.ResetBaseline()
				if got := b.Baseline(); got.Calls != 0 || got.Openings != (events.AdaptiveOpenings{}) || got.Evidence != 0 || got.Warm {
					t.Errorf("after a reset: %+v", got)
				}
				b.warmUp()
			} else {
				p.Adaptive.MinRatio = 0.3
				b.SetPolicy(p)
			}
			if got := b.Baseline(); got.Demoted || got.Mode != "enforce" {
				t.Errorf("%+v", got)
			}
			b.fault()
			if c := b.change.Load(); c.Cause != events.CauseAdaptive {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestProjectionOfOtherLimits(t *testing.T) {
	for _, test := range []struct {
		name     string
		policy   Policy
		ratio    float64
		interval time.Duration
		want     bool
	}{
		{"no limit", Policy{}, 1, time.Second, false},
		{"fail_max, all fail", Policy{FailMax: 1000}, 1, time.Second, true},
		{"fail_max, more calls", Policy{FailMax: 1001}, 1, time.Second, false},
		{"fail_max, half fail", Policy{FailMax: 5}, 0.5, time.Second, true},
		{"fail_max, half fail, unlikely", Policy{FailMax: 50}, 0.5, time.Second, false},
		{"ratio", Policy{Limits: algorithm.Limits{FailureRatio: 0.4, MinRequests: 20, Window: time.Minute}}, 0.5, time.Second, true},
		{"ratio, too high", Policy{Limits: algorithm.Limits{FailureRatio: 0.95, MinRequests: 20, Window: time.Minute}}, 0.5, time.Second, false},
		{"ratio, too few calls", Policy{Limits: algorithm.Limits{FailureRatio: 0.4, MinRequests: 20, Window: time.Minute}}, 0.5, 10 * time.Second, false},
		{"count", Policy{Limits: algorithm.Limits{Algorithm: "count", FailureRatio: 0.4, MinRequests: 20}}, 0.5, time.Hour, true},
	} {
		test.policy.SetDefaultOptions()
		if got := test.policy.wouldOpen(test.ratio, test.interval, events.ErrorReset); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestBaselineIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBreaker(t, adaptivePolicy(adaptive.Enforce))
		b.warmUp()
		record, err := b.BaselineRecord()
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []adaptive.Mode{adaptive.Enforce, adaptive.Off} {
			restored := newTestBreaker(t, adaptivePolicy(mode))
			if err := restored.RestoreBaseline(record[1:]); err == nil {
				t.Error("a damaged record was accepted")
			}
			if err := restored.RestoreBaseline(record); err != nil {
				t.Fatal(err)
			}
			restored.SetPolicy(adaptivePolicy(adaptive.Enforce))
			if got := restored.Baseline(); got.Calls != 400 || !got.Warm {
				t.Errorf("mode %v: %+v", mode, got)
			}
			restored.call(6, false, time.Millisecond)
			restored.want(events.Open)
		}
		if record, err := newTestBreaker(t, adaptivePolicy(adaptive.Off)).BaselineRecord(); record != nil || err != nil {
			t.Errorf("%s, %v", record, err)
		}
	})
}
