package adaptive

import "time"

// period is the time after which it is decided whether what was seen in it is learnt.
const period = time.Hour

// hours counts the calls of a healthy service: those of the current period, and the sums of the past ones from which something was
// learnt.
type hours struct {
	start                 time.Duration // of the current period: its first call, if it has one
	newCalls, newFailures uint64        // in the current period

	learned time.Duration // the sum of the past periods with calls
	total   uint64        // calls in them
}

// over reports whether the current period is over.
func (h *hours) over(now time.Duration) bool { return now-h.start >= period }

// count counts calls in the current period.
func (h *hours) count(now time.Duration, calls, failures uint64) {
	if h.newCalls == 0 { // the time without calls before is no time of warmup
		h.start = now
	}
	h.newCalls += calls
	h.newFailures += failures
}

// isHealthy reports whether the current period has calls, and not so many failures that nothing is learnt from it.
func (h *hours) isHealthy(o *Options) bool {
	return h.newCalls > 0 && float64(h.newFailures)/float64(h.newCalls) <= o.Cap
}

// next begins a period. The current one becomes a past one if it is healthy.
func (h *hours) next(o *Options, now time.Duration) {
	if h.isHealthy(o) {
		h.learned += period
		h.total += h.newCalls
	}
	h.start, h.newCalls, h.newFailures = now, 0, 0
}

// calls returns the number of calls that were learnt.
func (h *hours) calls() uint64 { return h.total + h.newCalls }

// time returns the time that was learnt.
func (h *hours) time(now time.Duration) time.Duration {
	if h.newCalls == 0 {
		return h.learned
	}
	return h.learned + h.elapsed(now)
}

// elapsed returns the time of the current period until now.
func (h *hours) elapsed(now time.Duration) time.Duration { return min(now-h.start, period) }

// isWarm reports whether enough calls were seen, for long enough.
func (h *hours) isWarm(o *Options, now time.Duration) bool {
	return h.calls() >= uint64(max(o.WarmupCalls, 0)) && h.time(now) >= o.WarmupTime
}
