package breaker

import (
	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// Baseline returns what has been learnt of the upstream: see Policy.Adaptive.
func (b *Breaker) Baseline() events.Baseline { return b.learning.status() }

// ResetBaseline forgets what has been learnt, and the verdicts on openings.
func (b *Breaker) ResetBaseline() {
	l := &b.learning
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.learner != nil {
		l.learner.Reset(l.now())
		l.waiting.Store(false)
	}
}

// BaselineRecord returns what has been learnt in a form that RestoreBaseline reads; nil if nothing ever was.
func (b *Breaker) BaselineRecord() ([]byte, error) {
	l := &b.learning
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.learner == nil {
		return nil, nil
	}
	return l.learner.Record(l.now())
}

// RestoreBaseline sets what has been learnt to that of a record. If this is damaged or of another version, it returns an error and
// changes nothing.
func (b *Breaker) RestoreBaseline(record []byte) error {
	l := &b.learning
	l.mu.Lock()
	defer l.mu.Unlock()
	learner, base := l.learner, l.base
	if learner == nil { // the mode is off, and may change
		learner, base = adaptive.NewLearner(b.policy.Load().Adaptive), l.env.now()
	}
	if err := learner.Restore(l.env.now().Sub(base), record); err != nil {
		return err
	}
	l.learner, l.base = learner, base
	return nil
}

// publishReports publishes what the learning has to report. b.mu is held.
func (b *Breaker) publishReports() {
	if !b.learning.hasReports.Load() {
		return
	}
	for _, r := range b.learning.takeReports() {
		r.Service = b.service
		b.publish(r)
	}
}
