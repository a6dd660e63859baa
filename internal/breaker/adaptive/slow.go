package adaptive

import (
	"fmt"
	"math"
	"time"
)

const (
	// slowFactor is the multiple of the p99 of healthy calls from which on a call is slow.
	slowFactor = 3
	// minSlowCall is the least duration from which on a call is slow, if it is learnt.
	minSlowCall = 100 * time.Millisecond
)

// SlowCall determines from when on a call is slow if that is learnt. With the zero value it is not learnt.
type SlowCall struct {
	// Default is the duration until enough was learnt.
	Default time.Duration
	// Max is the longest duration. It must be at least Default.
	Max time.Duration
}

// Auto reports whether it is learnt from when on a call is slow.
func (s SlowCall) Auto() bool { return s.Max > 0 }

// durationOf returns the duration from which on a call is slow after what d has learnt. It rises at most twofold in a period, so that an
// upstream that becomes slower, or a client that makes slow calls, does not raise it quickly.
func (s SlowCall) durationOf(d *durations) time.Duration {
	if !d.warm {
		return s.Default
	}
	return min(max(d.latency.slow(), minSlowCall), maxRise*d.before, s.Max)
}

// slow returns the duration from which on a call is slow, without bounds.
func (l Latency) slow() time.Duration {
	milliseconds := min(slowFactor*l.P99*1e3, math.MaxInt64/2/float64(time.Millisecond))
	return time.Duration(math.Round(milliseconds)) * time.Millisecond
}

// explain describes from when on a call is slow in a clause for operators; "" if that is not learnt.
func (d *durations) explain(o *Options, now time.Duration) string {
	if !d.slowCall.Auto() {
		return ""
	}
	clause := fmt.Sprintf("a call is slow from %v on", d.value)
	if calls := d.calls(); calls < uint64(max(o.WarmupCalls, 0)) {
		return fmt.Sprintf("%s, until %d of %d calls are learnt", clause, calls, o.WarmupCalls)
	}
	if !d.warm {
		return fmt.Sprintf("%s, until calls of %v of %v are learnt", clause, d.time(now).Round(time.Second), o.WarmupTime)
	}
	learnt := d.latency.slow()
	switch {
	case learnt == d.value:
		return clause + ", three times the p99 learnt"
	case d.value == d.slowCall.Max:
		return fmt.Sprintf("%s, 0.8 of timeout; three times the p99 learnt is %v", clause, learnt)
	case d.value > learnt:
		return fmt.Sprintf("%s, the least possible; three times the p99 learnt is %v", clause, learnt)
	}
	return fmt.Sprintf("%s, and at most twice that in the next hour; three times the p99 learnt is %v", clause, learnt)
}
