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

// PolicyOf returns the policy of a route's breaker.
func PolicyOf(r *routes.Route) breaker.Policy {
	b := &r.Breaker
	return breaker.Policy{
		Limits: algorithm.Limits{
			Algorithm:        b.Algorithm,
			Options:          b.Algorithms[b.Algorithm],
			FailureRatio:     b.FailureRatio,
			SlowCallRatio:    b.SlowCallRatio,
			SlowCallDuration: slowCallDuration(b),
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
		ActiveProbing: b.Probe.Path != "",
	}
}

// slowCallDuration returns the duration from which a call is slow.
func slowCallDuration(b *routes.Breaker) time.Duration {
	if b.SlowCallDuration.Auto {
		return 5 * time.Second
	}
	return b.SlowCallDuration.Value
}
