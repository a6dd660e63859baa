package algorithm

import (
	"fmt"
	"time"

	"cbproxy/internal/events"
)

// CountOptions are the options of the algorithm count.
type CountOptions struct {
	// Number of most recent calls over which failure_ratio and slow_call_ratio are computed, however long ago they were. At least
	// min_requests.
	Calls int `yaml:"calls" valid:"1..100000" tune:"10 20 50 100 200 500"`
}

// ValidateMinRequests reports a number of calls in which min_requests can never be reached.
func (o *CountOptions) ValidateMinRequests(minRequests int, report func(path, message string)) {
	if o.Calls < minRequests {
		report("calls", fmt.Sprintf("must be at least min_requests (%d), got %d", minRequests, o.Calls))
	}
}

func init() {
	Register("count", Factory{
		Options:    func() any { return &CountOptions{Calls: 100} },
		Used:       (*Limits).usesRatios,
		New:        func() Algorithm { return new(count) },
		ByFailures: true,
	})
}

// count opens the breaker by the ratios of failures and of slow calls in a number of calls: the count-based sliding window of
// resilience4j.
type count struct {
	limits *Limits
	calls  []countedCall // a ring; oldest is the next one to be replaced once it is full
	oldest int
	size   int // the capacity of calls
	sum    callCounts
}

// countedCall is what count keeps of a call.
type countedCall struct{ failed, slow bool }

func (c countedCall) counts() callCounts {
	return countsOf(Observation{Failed: c.failed, Slow: c.slow})
}

// Configure implements Algorithm.
func (a *count) Configure(_ time.Duration, l *Limits) {
	a.limits = l
	size := l.Options.(*CountOptions).Calls
	if size == a.size {
		return
	}
	kept := append(append([]countedCall(nil), a.calls[a.oldest:]...), a.calls[:a.oldest]...) // oldest first
	kept = kept[max(0, len(kept)-size):]
	a.calls, a.oldest, a.size, a.sum = kept, 0, size, callCounts{}
	for _, c := range kept {
		a.sum.add(c.counts())
	}
}

// Observe implements Algorithm.
func (a *count) Observe(_ time.Duration, call Observation) events.Cause {
	c := countedCall{failed: call.Failed, slow: call.Slow}
	a.sum.add(c.counts())
	if len(a.calls) < a.size {
		a.calls = append(a.calls, c)
	} else {
		a.sum.sub(a.calls[a.oldest].counts())
		a.calls[a.oldest] = c
		a.oldest = (a.oldest + 1) % a.size
	}
	return a.limits.exceededRatio(a.sum)
}

// Counts implements Algorithm.
func (a *count) Counts(time.Duration) events.Counts { return a.sum.public() }
