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
	// maxRise is the factor by which the failure ratio rises at most from one period to the next.
	maxRise = 2
)

// baseline is the failure ratio of a healthy service, as it was learnt.
type baseline struct {
	hours

	pastCalls, pastFailures float64 // of the past periods, with their weights

	before float64 // the ratio at the start of the current period
	ratio  float64 // the upper bound; see update
	until  uint64  // the number of new calls at which ratio is updated
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
	if b.over(now) {
		b.endPeriod(o, now)
	}
	b.count(now, calls, failures)
	if b.newCalls >= b.until {
		b.update(o)
	}
}

// endPeriod adds the current period to the past ones, unless it has so many failures that the service was not healthy.
func (b *baseline) endPeriod(o *Options, now time.Duration) {
	if b.isHealthy(o) {
		calls := float64(b.newCalls)
		weight := math.Exp2(-min(float64(period)/float64(halfLife), calls/halfLifeCalls))
		b.pastCalls, b.pastFailures = b.pastCalls*weight+calls, b.pastFailures*weight+float64(b.newFailures)
	}
	b.next(o, now)
	b.update(o)
	b.before = b.ratio
}

// update computes the ratio: the upper bound of the posterior distribution of the failure ratio. It is done after a share of the calls
// only, because it takes some microseconds.
func (b *baseline) update(o *Options) {
	calls, failures := b.pastCalls, b.pastFailures
	if b.isHealthy(o) {
		calls, failures = calls+float64(b.newCalls), failures+float64(b.newFailures)
	}
	bound := mathext.InvRegIncBeta(priorFailures+failures, priorSuccesses+calls-failures, confidence)
	b.ratio = min(max(bound, o.Floor), maxRatio, max(maxRise*b.before, o.Floor))
	b.until = b.newCalls + 16 + b.newCalls/16
}
