package service

import (
	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/routes"
)

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
			SlowCallDuration: b.SlowCallDuration,
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
		ActiveProbing:    b.Probe.Path != "",
	}
}
