package service

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/routes"
)

var adaptiveModes = map[string]adaptive.Mode{"off": adaptive.Off, "shadow": adaptive.Shadow, "enforce": adaptive.Enforce}

var modes = map[string]breaker.Mode{"enforce": breaker.Enforce, "shadow": breaker.Shadow, "off": breaker.Off}

// defaultSlowCall is the duration from which on a call is slow until enough was learnt.
const defaultSlowCall = 5 * time.Second

// PolicyOf returns the policy of a route's breaker.
func PolicyOf(r *routes.Route) breaker.Policy {
	b := &r.Breaker
	slowCallDuration, slowCall := slowCallOf(r)
	return breaker.Policy{
		Limits: algorithm.Limits{
			Algorithm:        b.Algorithm,
			Options:          b.Algorithms[b.Algorithm],
			FailureRatio:     b.FailureRatio,
			SlowCallRatio:    b.SlowCallRatio,
			SlowCallDuration: slowCallDuration,
			MinRequests:      b.MinRequests,
			Window:           b.Window,
		},
		Mode:            modes[b.Mode],
		FailMax:         b.FailMax,
		RecoveryTimeout: b.RecoveryTimeout,
		RecoveryBackoff: breaker.Backoff{
			Multiplier: b.RecoveryBackoff.Multiplier,
			Max:        b.RecoveryBackoff.Max,
			Jitter:     b.RecoveryBackoff.Jitter,
		},
		HalfOpenRequests: b.HalfOpenRequests,
		RecoveryRamp:     b.RecoveryRamp,
		RetryAfter:       b.RetryAfter.After,
		RetryAfterMax:    b.RetryAfter.Max,
		Adaptive: adaptive.Options{
			Mode:        adaptiveModes[b.Adaptive.Mode],
			FalseAlarm:  b.Adaptive.FalseAlarm,
			MinRatio:    b.Adaptive.MinRatio,
			MinCalls:    b.Adaptive.MinCalls,
			Floor:       b.Adaptive.Floor,
			Cap:         b.Adaptive.Cap,
			WarmupCalls: b.Adaptive.Warmup.Calls,
			WarmupTime:  b.Adaptive.Warmup.Time,
		},
		SlowCall:      slowCall,
		ByKey:         b.By.Header != "",
		ActiveProbing: b.Probe.Enabled(),
	}
}

// slowCallOf returns the duration from which on a call is slow, and how it is learnt. A learnt one is below the timeout, so that slow
// calls end before it.
func slowCallOf(r *routes.Route) (time.Duration, adaptive.SlowCall) {
	setting := r.Breaker.SlowCallDuration
	if !setting.Auto {
		return setting.Value, adaptive.SlowCall{}
	}
	longest := max(r.Timeout/10*8, 1)
	learnt := adaptive.SlowCall{Default: min(defaultSlowCall, longest), Max: longest}
	return learnt.Default, learnt
}
