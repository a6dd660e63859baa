package adaptive

import "time"

// Trial applies the test of a Learner to calls that are not made. Nothing is learnt from them.
type Trial struct{ learner Learner }

// Trial returns a trial that has seen no call; nil if no call opens the breaker, because of the mode or of the warmup.
func (l *Learner) Trial(now time.Duration) *Trial {
	if l.Mode() != Enforce || !l.baseline.isWarm(&l.options, now) {
		return nil
	}
	return &Trial{Learner{options: l.options, likelihoods: l.likelihoods}}
}

// Observe counts a call and reports whether it opens the breaker.
func (t *Trial) Observe(failed bool) bool {
	t.learner.detector.observe(&t.learner.likelihoods, failed)
	return failed && t.learner.complete(&t.learner.detector)
}
