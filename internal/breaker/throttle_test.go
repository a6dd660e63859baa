package breaker

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

func throttlePolicy(o ThrottleOptions) Policy {
	return Policy{
		Algorithm: "throttle", AlgorithmOptions: &o,
		SlowCallRatio: 0.5, SlowCallDuration: time.Second, // it counts durations, and throttle takes no notice
		Window: 10 * time.Second, RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
}

// newThrottle returns an algorithm that has counted the given calls just now.
func newThrottle(o ThrottleOptions, succeeded, failed, rejected int) *throttle {
	p := throttlePolicy(o)
	a := newAlgorithm(&p).(*throttle)
	for range succeeded {
		a.Observe(0, Observation{})
	}
	for range failed {
		a.Observe(0, Observation{Failed: true, Slow: true})
	}
	a.window.count(0, callCounts{rejected: uint32(rejected)})
	return a
}

func TestThrottleRejectsByTheFormula(t *testing.T) {
	usual := ThrottleOptions{SuccessRatio: 0.95, Aggression: 1, MaxRejection: 0.8, MinRPS: 1}
	with := func(change func(*ThrottleOptions)) ThrottleOptions {
		o := usual
		change(&o)
		return o
	}
	tests := []struct {
		name                        string
		options                     ThrottleOptions
		succeeded, failed, rejected int
		want                        float64
	}{
		{"no call", usual, 0, 0, 0, 0},
		{"all succeed", usual, 100, 0, 0, 0},                 // 100 - 100/0.95 < 0
		{"at the success ratio", usual, 95, 5, 0, 0},         // 100 - 95/0.95 = 0
		{"half of them fail", usual, 50, 50, 0, 0.469},       // (100 - 50/0.95) / 101
		{"rejected calls count", usual, 50, 50, 100, 0.733},  // (200 - 50/0.95) / 201
		{"rejected calls alone", usual, 95, 0, 105, 0.498},   // (200 - 95/0.95) / 201
		{"at most max_rejection", usual, 0, 100, 0, 0.8},     // 100 / 101 = 0.99
		{"one failure of one call", usual, 0, 1, 0, 0.5},     // 1 / 2
		{"one failure of two calls", usual, 1, 1, 0, 0.3158}, // (2 - 1/0.95) / 3
		{"no upper limit", with(func(o *ThrottleOptions) { o.MaxRejection = 1 }), 0, 100, 0, 0.990},
		{"nothing may be rejected", with(func(o *ThrottleOptions) { o.MaxRejection = 0 }), 0, 100, 0, 0},
		{"half of them may fail", with(func(o *ThrottleOptions) { o.SuccessRatio = 0.5 }), 50, 50, 0, 0}, // 100 - 50/0.5
		{"more than half fail", with(func(o *ThrottleOptions) { o.SuccessRatio = 0.5 }), 25, 75, 0, 0.495},
		{"all must succeed", with(func(o *ThrottleOptions) { o.SuccessRatio = 1 }), 99, 1, 0, 0.0099}, // 1 / 101
		{"aggression 2", with(func(o *ThrottleOptions) { o.Aggression = 2 }), 50, 50, 0, 0.6848},      // 0.469 ^ 0.5
		{"aggression 0.5", with(func(o *ThrottleOptions) { o.Aggression = 0.5 }), 50, 50, 0, 0.2199},  // 0.469 ^ 2
		{"aggressive, all succeed", with(func(o *ThrottleOptions) { o.Aggression = 10 }), 100, 0, 0, 0},
		{"below min_rps", with(func(o *ThrottleOptions) { o.MinRPS = 101 }), 0, 100, 0, 0},
		{"at min_rps", with(func(o *ThrottleOptions) { o.MinRPS = 100 }), 0, 100, 0, 0.8},
		{"rejected calls are asked for", with(func(o *ThrottleOptions) { o.MinRPS = 100 }), 0, 50, 50, 0.8},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := newThrottle(test.options, test.succeeded, test.failed, test.rejected)
			got := a.RejectionRatio(0)
			if math.Abs(got-test.want) > 0.0005 {
				t.Errorf("rejects with probability %.4f, want %.4f", got, test.want)
			}
			a.lastAdmitted = 0 // no call is admitted for the time that has passed
			if got > 0 && a.Admit(0, math.Nextafter(got, 0)) {
				t.Error("admits a call with a random number below the probability")
			}
			a = newThrottle(test.options, test.succeeded, test.failed, test.rejected)
			a.lastAdmitted = 0
			if !a.Admit(0, got) {
				t.Error("rejects a call with a random number that is the probability")
			}
		})
	}
}

// min_rps is compared with the rate since the first call in the window, over at least a second.
func TestThrottleMeasuresTheRate(t *testing.T) {
	o := ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 1, MinRPS: 10}
	a := newThrottle(o, 0, 20, 0)
	for at, want := range map[time.Duration]bool{
		0:                     true,  // 20 in a second
		2 * time.Second:       true,  // 20 in 2 s
		2*time.Second + 1:     false, // less than 10 in a second
		10*time.Second - 1:    false,
		100 * time.Hour:       false, // no call in the window
		math.MaxInt64 - 1 - 1: false,
	} {
		b := *a
		if got := b.RejectionRatio(at) > 0; got != want {
			t.Errorf("after %v: rejects %v, want %v", at, got, want)
		}
	}
}

// If all calls fail and each would be rejected, one a second is admitted.
func TestThrottleAdmitsOneCallASecond(t *testing.T) {
	a := newThrottle(ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 1, MinRPS: 0}, 0, 0, 0)
	var admitted []time.Duration
	for now := time.Duration(0); now < 20*time.Second; now += 100 * time.Millisecond {
		if a.Admit(now, 0) {
			admitted = append(admitted, now)
			a.Observe(now, Observation{Failed: true})
		}
	}
	for i, at := range admitted {
		if at != time.Duration(i)*time.Second {
			t.Fatalf("admitted at %v", admitted)
		}
	}
	if len(admitted) != 20 {
		t.Errorf("admitted %d calls in 20 s", len(admitted))
	}
}

func TestThrottleMatchesAListOfCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies := rapid.Custom(func(t *rapid.T) Policy {
			p := throttlePolicy(ThrottleOptions{
				SuccessRatio: rapid.SampledFrom([]float64{0.3, 0.5, 0.95, 1}).Draw(t, "success_ratio"),
				Aggression:   rapid.SampledFrom([]float64{0.5, 1, 1, 3}).Draw(t, "aggression"),
				MaxRejection: rapid.SampledFrom([]float64{0, 0.5, 0.8, 1}).Draw(t, "max_rejection"),
				MinRPS:       rapid.SampledFrom([]float64{0, 1, 5}).Draw(t, "min_rps"),
			})
			p.Window = time.Duration(rapid.Int64Range(int64(exactStep), int64(exactSpan)).Draw(t, "window"))
			return p
		})
		policy := policies.Draw(t, "policy")
		a, now := newAlgorithm(&policy).(Limiter), time.Duration(0)
		var asked []timedCall
		lastAdmitted := -time.Hour
		ratio := func() float64 {
			asked = recent(asked, now, policy.Window)
			o := policy.AlgorithmOptions.(*ThrottleOptions)
			n, s := float64(len(asked)), 0.0
			for _, c := range asked {
				if !c.rejected && !c.Failed {
					s++
				}
			}
			if n == 0 || n/max(1, (now-asked[0].at).Seconds()) < o.MinRPS {
				return 0
			}
			return min(math.Pow(max(0, (n-s/o.SuccessRatio)/(n+1)), 1/o.Aggression), o.MaxRejection)
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "calls") {
					random := rapid.Float64Range(0, 1).Draw(t, "random")
					p := ratio()
					if math.Abs(random-p) < 1e-6 {
						t.Skip("rounding decides")
					}
					want := random >= p || now-lastAdmitted >= time.Second
					if got := a.Admit(now, random); got != want {
						t.Fatalf("admitted %v with %v, the ratio is %v", got, random, p)
					}
					if !want {
						asked = append(asked, timedCall{at: now, rejected: true})
						continue
					}
					lastAdmitted = now
					call := randomObservations.Draw(t, "call")
					a.Observe(now, call)
					if !call.Abandoned {
						asked = append(asked, timedCall{at: now, Observation: call})
					}
				}
			},
			"wait": func(t *rapid.T) {
				now += exactStep + time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "wait"))
			},
			"policy": func(t *rapid.T) {
				asked = recent(asked, now, policy.Window)
				policy = policies.Draw(t, "policy")
				a.Configure(now, new(policy))
			},
			"": func(t *rapid.T) {
				if got, want := a.RejectionRatio(now), ratio(); math.Abs(got-want) > 1e-6 {
					t.Fatalf("rejection ratio %v, want %v of %+v", got, want, asked)
				}
				if got, want := a.Counts(now), publicCounts(observations(asked)); got != want {
					t.Fatalf("counts %+v, want %+v", got, want)
				}
			},
		})
	})
}

// fillThrottle makes 100 calls of which half fail, however many are rejected.
func (w *testBreaker) fillThrottle() {
	for range 50 {
		for _, failed := range []bool{false, true} {
			call, _ := w.AllowActiveProbe() // is not throttled
			if failed {
				call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
			} else {
				call.Success(0)
			}
		}
	}
}

// refuse asks for n calls and returns how many are rejected with err. It reports nothing on the others.
func (w *testBreaker) refuse(n int, err error) (rejected int) {
	w.t.Helper()
	for range n {
		switch call, got := w.Allow(); got {
		case err:
			if call.State != events.Closed || !call.RetryAt.IsZero() {
				w.t.Fatalf("rejected with %+v", call)
			}
			rejected++
		case nil:
			call.Cancel()
		default:
			w.t.Fatal(got)
		}
	}
	return rejected
}

func TestThrottledBreakerStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Rejected calls count, so the share grows to max_rejection: with r rejections it is (100 + r - 50) / (101 + r).
		p := throttlePolicy(ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.6, MinRPS: 1})
		w := newTestBreaker(t, p)
		w.fillThrottle()
		if got := w.Status().RejectionRatio; math.Abs(got-50./101) > 1e-9 {
			t.Errorf("rejection ratio %v", got)
		}
		if n := w.refuse(10_000, ErrThrottled); n < 5700 || n > 6300 {
			t.Errorf("rejected %d of 10000 calls, want about 6000", n)
		}
		status := w.Status()
		if status.State != events.Closed || status.RejectionRatio != 0.6 || status.AdmittedRatio != 1 || w.change.Load() != nil {
			t.Errorf("%+v, changed %+v", status, w.change.Load())
		}
		if c := status.Window; c == nil || c.Requests != 100 || c.Failures != 50 {
			t.Errorf("counts %+v, want those of the calls that were made", c)
		}
		time.Sleep(p.Window)
		if n := w.refuse(1000, ErrThrottled); n > 0 || w.Status().RejectionRatio != 0 {
			t.Errorf("rejected %d calls after the window", n)
		}
	})
}

// fail_max counts beside the algorithm. The closed state that follows counts from zero, and so does a forced one.
func TestThrottledBreakerOpensByFailMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.6})
		p.FailMax = 3
		w := newTestBreaker(t, p)
		w.fillThrottle()
		for range 3 {
			call, _ := w.AllowActiveProbe()
			call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
		}
		w.want(events.Open)
		if c := w.change.Load(); c.Cause != events.CauseConsecutiveFailures || w.Status().RejectionRatio != 0 {
			t.Errorf("opened by %s, rejection ratio %v", c.Cause, w.Status().RejectionRatio)
		}
		w.recover()
		if n := w.refuse(1000, ErrThrottled); n > 0 {
			t.Errorf("rejected %d calls after the recovery", n)
		}
	})
}

func TestForcedClosedAndOffDoNotThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.9})
		w := newTestBreaker(t, p)
		w.fillThrottle()
		off := p
		off.Mode = Off
		w.SetPolicy(off)
		if n, ratio := w.refuse(1000, ErrThrottled), w.Status().RejectionRatio; n > 0 || ratio != 0 {
			t.Errorf("off: rejected %d calls, rejection ratio %v", n, ratio)
		}
		w.SetPolicy(p)
		if ratio := w.Status().RejectionRatio; math.Abs(ratio-50./101) > 1e-9 {
			t.Errorf("rejection ratio %v after off, want that of the calls before", ratio)
		}
		w.Force(events.Closed, 0, "")
		w.fillThrottle()
		if n, ratio := w.refuse(1000, ErrThrottled), w.Status().RejectionRatio; n > 0 || ratio != 0 {
			t.Errorf("forced closed: rejected %d calls, rejection ratio %v", n, ratio)
		}
		w.Release("")
		if n := w.refuse(1000, ErrThrottled); n > 0 {
			t.Errorf("rejected %d calls by those that were made in the forced state", n)
		}
	})
}

func TestShadowCountsThrottledCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := throttlePolicy(ThrottleOptions{SuccessRatio: 1, Aggression: 1, MaxRejection: 0.5})
		p.Mode = Shadow
		w := newTestBreaker(t, p)
		w.fillThrottle()
		var counted uint32
		for range 1000 {
			before := w.Status().ShadowRejections.Throttled
			call, err := w.Allow()
			if err != nil || call.State != events.Closed {
				t.Fatalf("%+v, %v", call, err)
			}
			call.Success(0)
			if w.Status().ShadowRejections.Throttled == before {
				counted++ // it was admitted anyway, so its result counts
			}
		}
		status := w.Status()
		if n := status.ShadowRejections; n.Throttled < 10 || n != (events.ShadowRejections{Throttled: 1000 - uint64(counted)}) {
			t.Errorf("counted %+v", n)
		}
		if got := status.Window.Successes; got != 50+counted {
			t.Errorf("%d successes are counted, want %d", got, 50+counted)
		}
	})
}

func TestThrottleOptionsAreValidated(t *testing.T) {
	for ratio, want := range map[float64]string{0: "success_ratio", 0.01: "", 1: ""} {
		var paths []string
		(&ThrottleOptions{SuccessRatio: ratio}).Validate(func(path, _ string) { paths = append(paths, path) })
		if got := strings.Join(paths, " "); got != want {
			t.Errorf("success_ratio %v: reported %q, want %q", ratio, got, want)
		}
	}
}
