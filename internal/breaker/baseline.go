package breaker

import (
	"encoding/json"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// Baseline returns what has been learnt of the upstream: see Policy.Adaptive and Policy.SlowCall.
func (b *Breaker) Baseline() events.Baseline { return b.learning.status(b.policy.Load()) }

// SlowCallDuration returns the duration from which on a call is slow now: that of the policy, or what was learnt. For the breaker of
// a key, it is that of the service.
func (b *Breaker) SlowCallDuration() time.Duration {
	if b.ofService != nil {
		return b.ofService.SlowCallDuration()
	}
	return b.learning.slowCallDuration(b.policy.Load())
}

// ResetBaseline forgets what has been learnt, and the verdicts on openings.
func (b *Breaker) ResetBaseline() {
	l := &b.learning
	now := l.lock()
	defer l.mu.Unlock()
	if l.learner != nil {
		l.learner.Reset(now)
		l.waiting.Store(false)
		l.learnt(now, 0)
	}
}

// BaselineRecord returns what has been learnt in a form that RestoreBaseline reads; nil if nothing ever was.
func (b *Breaker) BaselineRecord() ([]byte, error) {
	l := &b.learning
	now := l.lock()
	if l.learner == nil {
		l.mu.Unlock()
		return nil, nil
	}
	record := l.learner.Record(now)
	l.mu.Unlock() // calls do not wait for the encoding
	return json.Marshal(record)
}

// RestoreBaseline sets what has been learnt to that of a record. If this is damaged or of another version, it returns an error and
// changes nothing.
func (b *Breaker) RestoreBaseline(record []byte) error {
	l := &b.learning
	now := l.lock()
	defer l.mu.Unlock()
	learner, base := l.learner, l.base
	if learner == nil { // the mode is off, and may change
		learner, base = adaptive.NewLearner(b.policy.Load().Adaptive), l.env.now()
	}
	if err := learner.Restore(now, record); err != nil {
		return err
	}
	l.learner, l.base = learner, base
	l.learnt(now, 0)
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
