package breaker

import (
	"math"
	"time"

	"cbproxy/internal/events"
)

// Mode is what a breaker does with its verdict.
type Mode int

// The modes of a breaker.
const (
	Enforce Mode = iota // refuse calls
	Shadow              // decide and count as ever, but refuse nothing
	Off                 // let everything pass unseen; only the clock and an operator move the state
)

// Policy says when a breaker opens and when it closes again. A closed breaker opens as
// soon as a report finds any one of its three limits reached.
type Policy struct {
	Mode Mode
	// FailMax consecutive failures open the breaker; 0 never does.
	FailMax int
	// FailureRatio is the share of failures in Window that opens the breaker; 0 never does.
	FailureRatio float64
	// SlowCallRatio is the share of calls in Window that took SlowCallDuration or longer
	// that opens the breaker; 0 never does.
	SlowCallRatio    float64
	SlowCallDuration time.Duration
	// MinRequests is the number of calls in Window below which no ratio opens the breaker.
	MinRequests int
	Window      time.Duration
	// RecoveryTimeout is how long an opening lasts.
	RecoveryTimeout time.Duration
	// RecoveryBackoff is how openings grow while recovery fails.
	RecoveryBackoff Backoff
	// HalfOpenRequests is how many calls a half-open breaker lets through at once, and how
	// many of them must succeed in a row to close it.
	HalfOpenRequests int
	// ActiveProbing reserves the half-open state for AllowProbe: Allow refuses.
	ActiveProbing bool
}

// Backoff is how openings grow while recovery fails.
type Backoff struct {
	// Multiplier is the factor after each failed recovery; below 1 it counts as 1.
	Multiplier float64
	// Max is the longest opening; below RecoveryTimeout it has no meaning.
	Max time.Duration
	// Jitter is the largest share that chance adds to an opening after a failed recovery.
	// It never makes an opening longer than Max: where Max is reached, chance shortens.
	Jitter float64
}

// rolls tells whether any limit looks at the window.
func (p *Policy) rolls() bool { return p.FailureRatio > 0 || p.SlowCallRatio > 0 }

// slow tells whether a call that took so long is a slow one.
func (p *Policy) slow(took time.Duration) bool {
	return p.SlowCallRatio > 0 && took >= p.SlowCallDuration
}

// exceeded returns which ratio t reaches, "" if none. Shares are divided and not limits
// multiplied, because 3 of 10 is then exactly the 0.3 that was written.
func (p *Policy) exceeded(t tally) events.Cause {
	if t.requests == 0 || int64(t.requests) < int64(p.MinRequests) {
		return ""
	}
	all := float64(t.requests)
	switch {
	case p.FailureRatio > 0 && float64(t.failures)/all >= p.FailureRatio:
		return events.CauseFailureRatio
	case p.SlowCallRatio > 0 && float64(t.slow)/all >= p.SlowCallRatio:
		return events.CauseSlowCallRatio
	}
	return ""
}

// MaxOpening returns how long the n-th opening in a row may last.
func (p *Policy) MaxOpening(n int) time.Duration { return p.opening(n, 1) }

// opening returns how long the n-th opening in a row lasts, where chance is a number in
// [0, 1) drawn for it.
func (p *Policy) opening(n int, chance float64) time.Duration {
	if n <= 1 {
		return p.RecoveryTimeout
	}
	shortest, longest := float64(p.RecoveryTimeout), float64(max(p.RecoveryBackoff.Max, p.RecoveryTimeout))
	jitter := max(p.RecoveryBackoff.Jitter, 0)
	from := shortest * math.Pow(max(p.RecoveryBackoff.Multiplier, 1), float64(n-1)) // perhaps infinite
	to := min(from*(1+jitter), longest)
	if !(from < longest) {
		// Breakers that have all reached the longest opening must not probe in step.
		from, to = max(longest/(1+jitter), shortest), longest
	}
	// Not every duration is a float: the bounds must hold for the last nanosecond as well.
	d := time.Duration(min(from+(to-from)*chance, math.MaxInt64/2))
	return min(max(d, p.RecoveryTimeout), max(p.RecoveryBackoff.Max, p.RecoveryTimeout))
}
