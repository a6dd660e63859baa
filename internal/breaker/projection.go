package breaker

import (
	"math/rand/v2"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// maxProjectedCalls is the largest number of calls of a Projection, and the number of those before it.
const maxProjectedCalls = 1000

// Projection describes calls that are assumed to be made. Which of them fail is chosen at random, but the same each time.
type Projection struct {
	// Interval is the time between two calls.
	Interval time.Duration
	// Within is the time in which they are made; 0 is no limit. There are at most 1000.
	Within time.Duration
	// FailureRatio returns the share of the calls that fail, at a time after the first call.
	FailureRatio func(after time.Duration) float64
}

// OpensAfter returns the time from the first call of c to the one that would open the breaker, if it were closed; false if none would. It
// knows FailMax, the algorithm, and what the breaker has learnt if Policy.Adaptive is enforced. The algorithm is assumed to have seen
// a thousand calls before, at the same interval and with the ratio of the first ones of c: with an empty window, it would open by the
// chance of few calls. Failures are of the type of the last one. No call is slow, and none has a duration.
func (b *Breaker) OpensAfter(c Projection) (time.Duration, bool) {
	policy := b.policy.Load()
	if policy.Mode == Off || b.current.Load().forced != nil {
		return 0, false
	}
	kind := events.ErrorType("")
	if f := b.lastFailure.Load(); f != nil {
		kind = f.Type
	}
	return policy.opensAfter(c, maxProjectedCalls, kind, b.learning.trial())
}

// wouldOpen reports whether FailMax or the algorithm would open a breaker within the next calls if these arrived with an interval and a
// share of them failed with a failure of kind.
func (p *Policy) wouldOpen(failureRatio float64, interval time.Duration, kind events.ErrorType) bool {
	_, opens := p.opensAfter(Projection{Interval: interval, FailureRatio: func(time.Duration) float64 { return failureRatio }}, 0, kind, nil)
	return opens
}

// opensAfter is OpensAfter for failures of kind, with a number of calls before. learnt is nil if the breaker does not open by what was
// learnt.
func (p *Policy) opensAfter(c Projection, before int, kind events.ErrorType, learnt *adaptive.Trial) (time.Duration, bool) {
	random := rand.New(rand.NewPCG(1, 0)) // #nosec G404 -- must be the same each time
	var a algorithm.Algorithm
	if p.Used() {
		a = p.New()
	}
	call := algorithm.Observation{}
	next := func(ratio float64) {
		if call.Failed = random.Float64() < ratio; call.Failed {
			call.Type = kind
			call.ConsecutiveFailures++
		} else {
			call.Type, call.ConsecutiveFailures = "", 0
		}
	}
	for i := 0; a != nil && i < before; i++ {
		next(c.FailureRatio(0))
		a.Observe(time.Duration(i)*c.Interval, call)
	}
	call = algorithm.Observation{}
	for i := range maxProjectedCalls {
		now := time.Duration(i) * c.Interval
		if c.Within > 0 && now >= c.Within {
			break
		}
		next(c.FailureRatio(now))
		if p.FailMax > 0 && int64(call.ConsecutiveFailures) >= int64(p.FailMax) {
			return now, true
		}
		if a != nil && a.Observe(time.Duration(before)*c.Interval+now, call) != "" {
			return now, true
		}
		if learnt != nil && learnt.Observe(call.Failed) {
			return now, true
		}
	}
	return 0, false
}

// trial returns the test of calls by what was learnt; nil if it does not open the breaker.
func (l *learning) trial() *adaptive.Trial {
	now := l.lock()
	defer l.mu.Unlock()
	if l.learner == nil {
		return nil
	}
	return l.learner.Trial(now)
}
