package algorithm

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func throttleLimits(o ThrottleOptions) Limits {
	return Limits{Algorithm: "throttle", Options: &o, Window: 10 * time.Second}
}

// newThrottle returns an algorithm that has counted the given calls just now.
func newThrottle(o ThrottleOptions, succeeded, failed, rejected int) *throttle {
	l := throttleLimits(o)
	a := l.New().(*throttle)
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
		all := rapid.Custom(func(t *rapid.T) Limits {
			l := throttleLimits(ThrottleOptions{
				SuccessRatio: rapid.SampledFrom([]float64{0.3, 0.5, 0.95, 1}).Draw(t, "success_ratio"),
				Aggression:   rapid.SampledFrom([]float64{0.5, 1, 1, 3}).Draw(t, "aggression"),
				MaxRejection: rapid.SampledFrom([]float64{0, 0.5, 0.8, 1}).Draw(t, "max_rejection"),
				MinRPS:       rapid.SampledFrom([]float64{0, 1, 5}).Draw(t, "min_rps"),
			})
			l.Window = time.Duration(rapid.Int64Range(int64(exactStep), int64(exactSpan)).Draw(t, "window"))
			return l
		})
		limits := all.Draw(t, "limits")
		a, now := limits.New().(Limiter), time.Duration(0)
		var asked []timedCall
		lastAdmitted := -time.Hour
		ratio := func() float64 {
			asked = recent(asked, now, limits.Window)
			o := limits.Options.(*ThrottleOptions)
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
			"limits": func(t *rapid.T) {
				asked = recent(asked, now, limits.Window)
				limits = all.Draw(t, "limits")
				a.Configure(now, new(limits))
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

func TestThrottleOptionsAreValidated(t *testing.T) {
	for ratio, want := range map[float64]string{0: "success_ratio", 0.01: "", 1: ""} {
		var paths []string
		(&ThrottleOptions{SuccessRatio: ratio}).Validate(func(path, _ string) { paths = append(paths, path) })
		if got := strings.Join(paths, " "); got != want {
			t.Errorf("success_ratio %v: reported %q, want %q", ratio, got, want)
		}
	}
}
