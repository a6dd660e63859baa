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

// String returns the mode's name in the configuration.
func (m Mode) String() string { return [...]string{"off", "shadow", "enforce"}[m] }

// Options determine what is learnt and when failures are too many.
type Options struct {
	Mode Mode
	// FalseAlarm is about the probability, for each time that the evidence begins to rise, that a healthy service completes it.
	FalseAlarm float64
	// MinRatio is the failure ratio below which evidence does not open the breaker.
	MinRatio float64
	// MinCalls is the number of calls, since the evidence began to rise, before which it does not open the breaker; 0 is no limit. A
	// burst of failures is over before. A row of failures that is complete evidence by itself opens the breaker at any time.
	MinCalls int
	// Floor is the smallest failure ratio that a healthy service is assumed to have.
	Floor float64
	// Cap is the failure ratio above which nothing is learnt from an hour.
	Cap float64
	// WarmupCalls and WarmupTime are the number of calls, and the time with calls, before which nothing opens the breaker.
	WarmupCalls int
	WarmupTime  time.Duration
}

const (
	// maxEvidence is the evidence above which nothing is learnt.
	maxEvidence = 0.5
	// recoveryTime is the time after a recovery in which nothing is learnt.
	recoveryTime = time.Minute
)

// Result is what a call means for the breaker.
type Result int

// The results.
const (
	Nothing  Result = iota
	Open            // the evidence for a fault is complete: the breaker opens
	Shadowed        // the breaker would open, but does not, because of the mode or of a demotion
)

// Learner learns the failure ratio of one healthy service and the durations of its calls, and recognizes a fault. In the mode Off it
// learns durations only. now is the time since the learner was made; it never decreases. A Learner is not safe for concurrent use.
type Learner struct {
	options     Options
	baseline    baseline
	likelihoods likelihoods
	ratio       float64 // of which likelihoods are
	detector    detector
	learnAfter  time.Duration
	record      trackRecord
	durations   durations
	learnt      bool // the last call was learnt

	// inARow and halfFailing are those of explain for likelihoods and options; inARow is 0 if they have not been computed yet. They take
	// long enough for calls to wait.
	inARow, halfFailing int
}

// NewLearner returns a learner that has seen no call.
func NewLearner(o Options) *Learner {
	l := &Learner{options: o, baseline: newBaseline(&o), durations: newDurations(SlowCall{})}
	l.setLikelihoods()
	return l
}

// Configure replaces the options. What was learnt is kept; other options than before end a demotion.
func (l *Learner) Configure(o Options) {
	if o != l.options {
		l.record.endDemotion()
	}
	if (o.Mode == Off) != (l.options.Mode == Off) { // the calls without a mode are no evidence with one
		l.detector, l.record.incident = detector{}, false
	}
	l.options = o
	l.baseline.update(&o)
	l.ratio = 0
	l.setLikelihoods()
}

// SetSlowCall determines from when on a call is slow. It also applies options that have changed to the durations.
func (l *Learner) SetSlowCall(now time.Duration, s SlowCall) {
	l.durations.setSlowCall(&l.options, now, s)
}

// Reset forgets all calls and openings, and ends a demotion.
func (l *Learner) Reset(now time.Duration) {
	slowCall := l.durations.slowCall
	*l = *NewLearner(l.options)
	l.durations = newDurations(slowCall)
	l.baseline.start, l.durations.start = now, now
}

func (l *Learner) setLikelihoods() {
	if l.ratio != l.baseline.ratio {
		l.ratio = l.baseline.ratio
		l.likelihoods, l.inARow = likelihoodsOf(l.ratio, l.options.FalseAlarm), 0
	}
}

// Recovered begins a closed state after an opening.
func (l *Learner) Recovered(now time.Duration) {
	l.detector, l.learnAfter = detector{}, now+recoveryTime
}

// Observe counts a call of the closed state. An injected call, into which an operator has injected a fault, is evidence, but nothing is
// learnt from it. The result is Open only for a failure, and Shadowed only for the first one of an incident: see Openings.
func (l *Learner) Observe(now time.Duration, failed, injected bool) Result {
	if l.detector.calls == 0 {
		l.detector.since = now
	}
	l.detector.injected = l.detector.injected || injected
	l.detector.observe(&l.likelihoods, failed)
	unlikely := l.detector.sum > maxEvidence*l.likelihoods.limit
	if l.learnt = !unlikely && now >= l.learnAfter && !injected; l.learnt {
		failures := uint64(0)
		if failed {
			failures = 1
		}
		l.learn(now, 1, failures)
	}
	switch {
	case l.options.Mode == Off:
		return Nothing
	case l.detector.calls == 0:
		l.record.subsided()
		return Nothing
	case !failed || !l.complete(&l.detector) || !l.baseline.isWarm(&l.options, now):
		return Nothing
	case l.Mode() == Enforce:
		return Open
	case l.record.begin(l.detector.injected):
		return Shadowed
	}
	return Nothing
}

// learn counts calls of the healthy service.
func (l *Learner) learn(now time.Duration, calls, failures uint64) {
	l.durations.learn(&l.options, now, calls, failures)
	if l.options.Mode != Off {
		l.baseline.learn(&l.options, now, calls, failures)
		l.setLikelihoods()
	}
}

// Quiet reports whether a success would change nothing but the number of calls. That is so until there is another call.
func (l *Learner) Quiet(now time.Duration) bool { return l.detector.calls == 0 && now >= l.learnAfter }

// ObserveSuccesses counts a number of successes, if Quiet has returned true and there was no other call since.
func (l *Learner) ObserveSuccesses(now time.Duration, n uint64) { l.learn(now, n, 0) }

// ObserveDuration adds the duration of the call that Observe has just counted, a success. It is learnt if the call was. The result is the
// number of successful calls whose durations need not be added before the next one: see durations.add.
func (l *Learner) ObserveDuration(now, took time.Duration) (skip int) {
	if !l.learnt {
		return 0
	}
	return l.durations.add(&l.options, now, took)
}

// SlowCallDuration returns the duration from which on a call is slow; 0 if that is not learnt: see SetSlowCall.
func (l *Learner) SlowCallDuration() time.Duration { return l.durations.value }

// complete reports whether the calls of d are a fault.
func (l *Learner) complete(d *detector) bool {
	enough := d.calls >= uint64(max(l.options.MinCalls, 0)) || d.rowSuffices(&l.likelihoods)
	return enough && d.evidence(&l.likelihoods) >= 1 && d.ratio() >= l.options.MinRatio
}

// Mode returns the mode in force, which is Shadow instead of Enforce after a demotion.
func (l *Learner) Mode() Mode {
	if l.record.demoted {
		return min(l.options.Mode, Shadow)
	}
	return l.options.Mode
}

// Status is what a Learner has learnt and done.
type Status struct {
	// Mode is that in force, and Demoted whether that is not the configured one.
	Mode    Mode
	Demoted bool
	// FailureRatio is the upper bound of the failure ratio of the healthy service, and Calls the number of calls that were learnt. Both
	// are 0 if the mode is Off and was nothing else.
	FailureRatio float64
	Calls        uint64
	// Latency is that of the successful calls of the last hours; zero if there are none. SlowCallDuration is that of the Learner.
	Latency          Latency
	SlowCallDuration time.Duration
	// Warm is whether enough was learnt to recognize a fault.
	Warm bool
	// Evidence is that for a fault, from 0 to 1; the other fields are of the calls since it was last 0.
	Evidence         float64
	EvidenceCalls    uint64
	EvidenceFailures uint64
	EvidenceSince    time.Duration
	Openings         Openings
	// Explanation is a sentence for operators.
	Explanation string
}

// Status returns the current status.
func (l *Learner) Status(now time.Duration) Status {
	s := Status{
		Mode: l.Mode(), Demoted: l.record.demoted && l.options.Mode == Enforce,
		FailureRatio: l.baseline.ratio, Calls: l.baseline.calls(), Warm: l.baseline.isWarm(&l.options, now),
		Latency: l.durations.latency, SlowCallDuration: l.durations.value,
		Evidence: l.Evidence(), EvidenceCalls: l.detector.calls, EvidenceFailures: l.detector.failures, EvidenceSince: l.detector.since,
		Openings: l.record.openings, Explanation: l.explain(now),
	}
	if l.options.Mode == Off {
		s.Evidence = 0 // nothing is done by it
		if s.Calls == 0 {
			s.FailureRatio = 0
		}
	}
	return s
}

// Evidence returns the evidence for a fault, from 0 to 1.
func (l *Learner) Evidence() float64 { return l.detector.evidence(&l.likelihoods) }

// EvidenceFailures returns the number of failures among the calls that are the evidence.
func (l *Learner) EvidenceFailures() uint64 { return l.detector.failures }

// FailureRatio returns the upper bound of the failure ratio of the healthy service.
func (l *Learner) FailureRatio() float64 { return l.baseline.ratio }
