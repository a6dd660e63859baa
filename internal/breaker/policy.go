package breaker

import (
	"math"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
)

// Mode is whether a breaker enforces its decisions.
type Mode int

// The modes of a breaker.
const (
	Enforce Mode = iota // reject calls
	Shadow              // decide as in Enforce, but admit every call
	Off                 // admit every call and ignore its result; only time and operators change the state
)

// String returns the mode's name in the configuration.
func (m Mode) String() string { return [...]string{"enforce", "shadow", "off"}[m] }

// Policy determines when a breaker opens and when it closes again. A closed breaker opens as soon as a report finds FailMax or a
// limit of the algorithm reached.
type Policy struct {
	// Limits are the algorithm and what it is configured with.
	algorithm.Limits
	Mode Mode
	// FailMax is the number of consecutive failures that opens the breaker; 0 is no limit.
	FailMax int
	// RecoveryTimeout is the duration of the first open period.
	RecoveryTimeout time.Duration
	// RecoveryBackoff makes open periods longer while recovery fails.
	RecoveryBackoff Backoff
	// HalfOpenRequests is the number of calls that a half-open breaker admits at once, and the number of consecutive successes
	// that closes it.
	HalfOpenRequests int
	// RecoveryRamp is the time after closing during which a growing share of the calls is admitted; 0 admits all at once.
	RecoveryRamp time.Duration
	// RetryAfter is the number of consecutive calls reported by Call.RetryAfter that opens the breaker; 0 is no limit.
	// RetryAfterMax is the longest open period that they cause.
	RetryAfter    int
	RetryAfterMax time.Duration
	// Adaptive opens the breaker by failures that are too many for what was learnt of the upstream while it was healthy.
	Adaptive adaptive.Options
	// SlowCall is used instead of SlowCallDuration if its method Auto returns true.
	SlowCall adaptive.SlowCall
	// ByKey makes the keys of calls matter, see Call.WithKey: the breaker does not open because of one key alone.
	ByKey bool
	// ActiveProbing reserves the half-open state for AllowActiveProbe: Allow rejects all calls then.
	ActiveProbing bool
}

// Learns reports whether anything is learnt of the upstream.
func (p *Policy) Learns() bool { return p.Adaptive.Mode != adaptive.Off || p.SlowCall.Auto() }

// NeedsDurations reports whether the durations of calls are used.
func (p *Policy) NeedsDurations() bool { return p.UsesDurations() || p.Learns() }

// Backoff determines how the duration of open periods grows while recovery fails.
type Backoff struct {
	// Multiplier is the factor after each failed recovery; a value below 1 means 1.
	Multiplier float64
	// Max is the longest duration; a value below RecoveryTimeout means RecoveryTimeout.
	Max time.Duration
	// Jitter is the largest random share that is added to an open period after a failed recovery. None becomes longer than Max:
	// if Max is reached, the random share is subtracted.
	Jitter float64
}

// MaxOpenDuration returns the longest possible open period after the n-th consecutive opening.
func (p *Policy) MaxOpenDuration(n int) time.Duration { return p.openDuration(n, 1) }

// openDuration returns the open period after the n-th consecutive opening. random is a number in [0, 1).
func (p *Policy) openDuration(n int, random float64) time.Duration {
	if n <= 1 {
		return p.RecoveryTimeout
	}
	shortest, longest := float64(p.RecoveryTimeout), float64(max(p.RecoveryBackoff.Max, p.RecoveryTimeout))
	jitter := max(p.RecoveryBackoff.Jitter, 0)
	from := shortest * math.Pow(max(p.RecoveryBackoff.Multiplier, 1), float64(n-1)) // may be infinite
	to := min(from*(1+jitter), longest)
	if !(from < longest) {
		// Breakers that have all reached the longest duration must not probe at the same time.
		from, to = max(longest/(1+jitter), shortest), longest
	}
	// A float64 cannot represent every duration, so the bounds are applied again to the result.
	d := time.Duration(min(from+(to-from)*random, math.MaxInt64/2))
	return min(max(d, p.RecoveryTimeout), max(p.RecoveryBackoff.Max, p.RecoveryTimeout))
}
