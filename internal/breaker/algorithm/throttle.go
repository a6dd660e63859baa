package algorithm

import (
	"math"
	"time"

	"cbproxy/internal/events"
)

// ThrottleOptions are the options of the algorithm throttle.
type ThrottleOptions struct {
	// Success ratio from which on nothing is rejected, above 0. Below it, calls are rejected until this share of the rest could
	// succeed.
	SuccessRatio float64 `yaml:"success_ratio" valid:"0..1" tune:"0.5 0.7 0.8 0.9 0.95"`
	// Exponent 1 / aggression of the formula: a value above 1 rejects more, one below 1 less.
	Aggression float64 `yaml:"aggression" valid:"positive" tune:"0.5 1 1.5 2"`
	// Largest share of calls that is rejected.
	MaxRejection float64 `yaml:"max_rejection" valid:"0..1"`
	// Calls per second that must be asked for before any is rejected.
	MinRPS float64 `yaml:"min_rps" valid:"non-negative"`
}

// Validate reports values that the bounds of the keys do not exclude.
func (o *ThrottleOptions) Validate(report func(path, message string)) {
	if o.SuccessRatio <= 0 {
		report("success_ratio", "must be above 0 and at most 1")
	}
}

func init() {
	Register("throttle", Factory{
		Options: func() any {
			return &ThrottleOptions{SuccessRatio: 0.95, Aggression: 1, MaxRejection: 0.8, MinRPS: 1}
		},
		New: func() Algorithm { return &throttle{lastAdmitted: -forcedAdmission} },
	})
}

// forcedAdmission is the time after which a call is admitted whatever the formula says, so that a recovery is noticed.
const forcedAdmission = time.Second

// throttle never opens the breaker. It rejects a share of the calls that grows as their success ratio falls: client-side
// throttling of Site Reliability Engineering, chapter 21, with the parameters of Envoy's admission control filter.
type throttle struct {
	options      *ThrottleOptions
	window       window // of the calls that have ended and of those that were rejected
	lastAdmitted time.Duration
}

// Configure implements Algorithm.
func (a *throttle) Configure(now time.Duration, l *Limits) {
	a.options = l.Options.(*ThrottleOptions)
	a.window.configure(now, l.Window)
}

// Observe implements Algorithm. A call is counted when it ends: one in flight has not failed.
func (a *throttle) Observe(now time.Duration, call Observation) events.Cause {
	if !call.Abandoned {
		a.window.count(now, countsOf(call))
	}
	return ""
}

// Admit implements Limiter.
func (a *throttle) Admit(now time.Duration, random float64) bool {
	if random >= a.RejectionRatio(now) || now-a.lastAdmitted >= forcedAdmission {
		a.lastAdmitted = now
		return true
	}
	a.window.count(now, callCounts{rejected: 1})
	return false
}

// RejectionRatio implements Limiter.
func (a *throttle) RejectionRatio(now time.Duration) float64 {
	c := a.window.counts(now)
	n, s := float64(c.requests)+float64(c.rejected), float64(c.requests-c.failures)
	if n == 0 {
		return 0
	}
	if age := now - a.window.at(0).start; n < a.options.MinRPS*max(age, time.Second).Seconds() {
		return 0
	}
	ratio := max(0, (n-s/a.options.SuccessRatio)/(n+1))
	if ratio > 0 && a.options.Aggression != 1 {
		ratio = math.Pow(ratio, 1/a.options.Aggression)
	}
	return min(ratio, a.options.MaxRejection)
}

// Counts implements Algorithm.
func (a *throttle) Counts(now time.Duration) events.Counts { return a.window.counts(now).public() }
