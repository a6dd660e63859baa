// Package algorithm has the algorithms by which a closed circuit breaker decides when it opens, each in a file of its own. They
// see the results of calls and the time, and nothing else, so that recorded calls can be replayed.
package algorithm

import (
	"time"

	"cbproxy/internal/events"
)

// Algorithm decides by the results of calls when a closed breaker opens, beside the number of consecutive failures. A value serves
// one closed state of one breaker. now is the time since the value was made; it never decreases. The methods are called with a lock
// held: they need no lock of their own, must return at once and must not call the breaker.
type Algorithm interface {
	// Configure applies limits: first those with which the value was made, then each time they have changed. What has been counted
	// is kept, as far back as the new limits reach. l is not modified, and stays valid.
	Configure(now time.Duration, l *Limits)
	// Observe counts a call that has ended now. It returns why the breaker opens, "" if it stays closed.
	Observe(now time.Duration, call Observation) events.Cause
	// Counts returns what is counted as of now.
	Counts(now time.Duration) events.Counts
}

// Limiter is an Algorithm that rejects a share of the calls while the breaker is closed.
type Limiter interface {
	Algorithm
	// Admit counts a call that is asked for now, and reports whether it may be made. random is a number in [0, 1).
	Admit(now time.Duration, random float64) bool
	// RejectionRatio returns the probability with which a call would be rejected now.
	RejectionRatio(now time.Duration) float64
}

// Fallible is an Algorithm whose Observe may fail to decide. The breaker then stays closed, and counts the failure:
// events.BreakerStatus.ExpressionErrors.
type Fallible interface {
	Algorithm
	// Err returns the error of the last Observe.
	Err() error
}

// Observation is the result of one call.
type Observation struct {
	// Failed reports a failure. If neither Failed nor Abandoned is set, the call was a success.
	Failed bool
	// Slow reports a duration of at least Limits.SlowCallDuration. It is set only if Limits.UsesDurations returns true.
	Slow bool
	// Abandoned reports a slow call that its client cancelled: neither a success nor a failure.
	Abandoned bool

	// The fields below are set only if Factory.Details is.

	// Type is the type of a failure.
	Type events.ErrorType
	// Duration is the duration of the call. It is set only if Limits.UsesDurations returns true.
	Duration time.Duration
	// ConsecutiveFailures is the breaker's number of consecutive failures, this call included.
	ConsecutiveFailures uint32
}
