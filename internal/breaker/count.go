package breaker

import (
	"fmt"
	"time"

	"cbproxy/internal/events"
)

// CountOptions are the options of the algorithm count.
type CountOptions struct {
	// Number of most recent calls over which failure_ratio and slow_call_ratio are computed, however long ago they were. At least
	// min_requests.
	Calls int `yaml:"calls" valid:"1..100000"`
}

// ValidateMinRequests reports a number of calls in which min_requests can never be reached.
func (o *CountOptions) ValidateMinRequests(minRequests int, report func(path, message string)) {
	if o.Calls < minRequests {
		report("calls", fmt.Sprintf("must be at least min_requests (%d), got %d", minRequests, o.Calls))
	}
}

func init() {
	RegisterAlgorithm("count", AlgorithmFactory{
		Options: func() any { return &CountOptions{Calls: 100} },
		New: func(p *Policy) Algorithm {
			if !p.usesRatios() {
				return nil
			}
			return new(count)
		},
	})
}

// count opens the breaker by the ratios of failures and of slow calls in a number of calls: the count-based sliding window of
// resilience4j.
type count struct {
	policy *Policy
	calls  []callCounts // a ring; oldest is the next one to be replaced once it is full
	oldest int
	size   int // the capacity of calls
	sum    callCounts
}

// Configure implements Algorithm.
func (a *count) Configure(_ time.Duration, p *Policy) {
	a.policy = p
	size := p.AlgorithmOptions.(*CountOptions).Calls
	if size == a.size {
		return
	}
	kept := append(append([]callCounts(nil), a.calls[a.oldest:]...), a.calls[:a.oldest]...) // oldest first
	kept = kept[max(0, len(kept)-size):]
	a.calls, a.oldest, a.size, a.sum = kept, 0, size, callCounts{}
	for _, c := range kept {
		a.sum.add(c)
	}
}

// Observe implements Algorithm.
func (a *count) Observe(_ time.Duration, call Observation) events.Cause {
	c := countsOf(call)
	a.sum.add(c)
	if len(a.calls) < a.size {
		a.calls = append(a.calls, c)
	} else {
		a.sum.sub(a.calls[a.oldest])
		a.calls[a.oldest] = c
		a.oldest = (a.oldest + 1) % a.size
	}
	return a.policy.exceededRatio(a.sum)
}

// Counts implements Algorithm.
func (a *count) Counts(time.Duration) events.Counts { return a.sum.public() }
