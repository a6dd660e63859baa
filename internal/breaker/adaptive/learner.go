package adaptive

import "time"

// Mode is what a breaker does with what is learnt.
type Mode int32

// The modes.
const (
	Off     Mode = iota // learn nothing
	Shadow              // learn, and only report when failures are too many
	Enforce             // open the breaker when failures are too many
)

// Options determine what is learnt and when failures are too many.
type Options struct {
	Mode Mode
	// FalseAlarm is about the probability, for each time that the evidence begins to rise, that a healthy service completes it.
	FalseAlarm float64
	// MinRatio is the failure ratio below which evidence does not open the breaker.
	MinRatio float64
	// MinCalls is the number of calls, since the evidence began to rise, before which it does not open the breaker; 0 is no limit. A
	// burst of failures is over before.
	MinCalls int
	// Floor is the smallest failure ratio that a healthy service is assumed to have.
	Floor float64
	// Cap is the failure ratio above which nothing is learnt from an hour.
	Cap float64
	// WarmupCalls and WarmupTime are the number of calls, and the time with calls, before which nothing opens the breaker.
	WarmupCalls int
	WarmupTime  time.Duration
}

// DefaultMinCalls is the default of Options.MinCalls. docs/learning-benchmark.md has what other values would do.
const DefaultMinCalls = 50

const (
	// maxEvidence is the evidence above which nothing is learnt.
	maxEvidence = 0.5
	// recoveryTime is the time after a recovery in which nothing is learnt.
	recoveryTime = time.Minute
)

// Learner learns the failure ratio of one healthy service, and recognizes a fault. now is the time since the learner was made; it never
// decreases. A Learner is not safe for concurrent use.
type Learner struct {
	options     Options
	baseline    baseline
	likelihoods likelihoods
	ratio       float64 // of which likelihoods are
	detector    detector
	learnAfter  time.Duration
}

// NewLearner returns a learner that has seen no call.
func NewLearner(o Options) *Learner {
	l := &Learner{options: o, baseline: newBaseline(&o)}
	l.setLikelihoods()
	return l
}

// Configure replaces the options. What was learnt is kept.
func (l *Learner) Configure(o Options) {
	l.options = o
	l.baseline.update(&o)
	l.ratio = 0
	l.setLikelihoods()
}

func (l *Learner) setLikelihoods() {
	if l.ratio != l.baseline.ratio {
		l.ratio = l.baseline.ratio
		l.likelihoods = likelihoodsOf(l.ratio, l.options.FalseAlarm)
	}
}

// Recovered begins a closed state after an opening.
func (l *Learner) Recovered(now time.Duration) {
	l.detector, l.learnAfter = detector{}, now+recoveryTime
}

// Observe counts a call of the closed state, and reports whether it completes the evidence for a fault. An injected call, into which an
// operator has injected a fault, is evidence, but nothing is learnt from it.
func (l *Learner) Observe(now time.Duration, failed, injected bool) (fault bool) {
	l.detector.observe(&l.likelihoods, failed)
	evidence := l.detector.evidence(&l.likelihoods)
	if evidence <= maxEvidence && now >= l.learnAfter && !injected {
		l.baseline.learn(&l.options, now, failed)
		l.setLikelihoods()
	}
	d := &l.detector
	return evidence >= 1 && d.calls >= uint64(l.options.MinCalls) && d.ratio() >= l.options.MinRatio && l.baseline.warm(&l.options, now) // #nosec G115 -- not negative
}

// Evidence returns the evidence for a fault, from 0 to 1.
func (l *Learner) Evidence() float64 { return l.detector.evidence(&l.likelihoods) }

// FailureRatio returns the upper bound of the failure ratio of the healthy service.
func (l *Learner) FailureRatio() float64 { return l.baseline.ratio }
