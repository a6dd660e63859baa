package adaptive

import (
	"math"
	"time"

	"gonum.org/v1/gonum/mathext"
)

// The prior is that of a service that fails one call in fifty, known as well as from fifty calls: Beta(1, 49).
const (
	priorFailures  = 1
	priorSuccesses = 49
)

const (
	// confidence is that of the upper bound of the failure ratio.
	confidence = 0.95
	// maxRatio is the largest failure ratio of a healthy service.
	maxRatio = 0.2
	// halfLife is the time, with traffic, after which what was learnt has half of its weight, but not before halfLifeCalls calls.
	halfLife      = 24 * time.Hour
	halfLifeCalls = 2000
	// period is the time after which it is decided whether what was seen in it is learnt.
	period = time.Hour
	// maxRise is the factor by which the failure ratio rises at most from one period to the next.
	maxRise = 2
)

// baseline is the failure ratio of a healthy service, as it was learnt.
type baseline struct {
	calls, failures float64 // of the past periods, with their weights

	start                 time.Duration // of the current period: its first call, if it has one
	newCalls, newFailures uint64        // in the current period
	before                float64       // the ratio at the start of the current period

	ratio float64 // the upper bound; see update
	until uint64  // the number of new calls at which ratio is updated

	learned time.Duration // the sum of the past periods with calls
	total   uint64        // calls that were learnt, without weights
}

// newBaseline returns what is known before any call.
func newBaseline(o *Options) baseline {
	b := baseline{before: 1}
	b.update(o)
	b.before = b.ratio
	return b
}

// learn counts calls of a healthy service.
func (b *baseline) learn(o *Options, now time.Duration, calls, failures uint64) {
	if now-b.start >= period {
		b.endPeriod(o, now)
	}
	if b.newCalls == 0 { // the time without calls before is no time of warmup
		b.start = now
	}
	b.newCalls += calls
	b.newFailures += failures
	if b.newCalls >= b.until {
		b.update(o)
	}
}

// endPeriod adds the current period to the past ones, unless it has so many failures that the service was not healthy.
func (b *baseline) endPeriod(o *Options, now time.Duration) {
	if calls := float64(b.newCalls); calls > 0 && float64(b.newFailures)/calls <= o.Cap {
		weight := math.Exp2(-min(float64(period)/float64(halfLife), calls/halfLifeCalls))
		b.calls, b.failures = b.calls*weight+calls, b.failures*weight+float64(b.newFailures)
		b.learned += period
		b.total += b.newCalls
	}
	b.start, b.newCalls, b.newFailures, b.until = now, 0, 0, 0
	b.update(o)
	b.before = b.ratio
}

// update computes the ratio: the upper bound of the posterior distribution of the failure ratio. It is done after a share of the calls
// only, because it takes some microseconds.
func (b *baseline) update(o *Options) {
	calls, failures := b.calls, b.failures
	if n := float64(b.newCalls); n > 0 && float64(b.newFailures)/n <= o.Cap {
		calls, failures = calls+n, failures+float64(b.newFailures)
	}
	bound := mathext.InvRegIncBeta(priorFailures+failures, priorSuccesses+calls-failures, confidence)
	b.ratio = min(max(bound, o.Floor), maxRatio, max(maxRise*b.before, o.Floor))
	b.until = b.newCalls + 16 + b.newCalls/16
}

// warm reports whether enough calls were seen, for long enough.
func (b *baseline) warm(o *Options, now time.Duration) bool {
	return b.total+b.newCalls >= uint64(o.WarmupCalls) && b.time(now) >= o.WarmupTime
}

// time returns the time that was learnt.
func (b *baseline) time(now time.Duration) time.Duration {
	if b.newCalls == 0 {
		return b.learned
	}
	return b.learned + min(now-b.start, period)
}
