package breaker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// learning gives the adaptive.Learner of a breaker, which all closed states use, a lock and a clock, and tells it of the states of the
// breaker. It is safe for concurrent use.
type learning struct {
	active     atomic.Bool  // whether anything is learnt, as it is configured
	slowCall   atomic.Int64 // the duration from which on a call is slow, if that is learnt
	quiet      quietCalls
	waiting    atomic.Bool // whether the next probe judges an opening
	hasReports atomic.Bool // whether reports is not empty, so that calls take no lock
	env        *Environment

	mu      sync.Mutex
	learner *adaptive.Learner // nil: it has never been used; guarded by mu
	base    time.Time         // when it was made; guarded by mu
	// engine is that of the current closed state; nil in other states, and while the state is forced. Calls that other engines have
	// admitted are not counted. Guarded by mu.
	engine  *engine
	reports []events.AdaptiveReport // not published yet; guarded by mu
}

// lock locks l.mu, and returns the time since the learner was made. It counts the quiet calls first.
func (l *learning) lock() (now time.Duration) {
	l.mu.Lock()
	if l.learner == nil {
		return 0
	}
	now = l.env.since(l.base)
	if n := l.quiet.take(); n > 0 {
		l.learner.ObserveSuccesses(now, uint64(n))
	}
	return now
}

// configure applies p. What was learnt is kept.
func (l *learning) configure(p *Policy) {
	now := l.lock()
	defer l.mu.Unlock()
	switch {
	case l.learner != nil:
		l.learner.Configure(p.Adaptive)
	case p.Learns():
		l.learner, l.base = adaptive.NewLearner(p.Adaptive), l.env.now()
	}
	l.active.Store(p.Learns())
	if l.learner != nil {
		l.learner.SetSlowCall(now, p.SlowCall)
		l.learnt(now, 0)
	}
}

// learnt makes known what the learner has learnt. The durations of the next skip successes are not needed. l.mu is held.
func (l *learning) learnt(now time.Duration, skip int64) {
	l.quiet.start(skip)
	if l.active.Load() && l.learner.Quiet(now) {
		l.quiet.setEngine(l.engine)
	} else {
		l.quiet.setEngine(nil)
	}
	// The last duration stays when none is learnt any more: calls that have loaded the previous policy use it.
	if d := int64(l.learner.SlowCallDuration()); d > 0 && d != l.slowCall.Load() {
		l.slowCall.Store(d)
	}
}

// observe counts a call of a closed state of e. It returns the number of failures that are the evidence by which the breaker opens; 0
// if it does not.
func (l *learning) observe(e *engine, o *outcome) (failures uint32) {
	if !l.active.Load() || l.quiet.count(e, o) {
		return 0
	}
	now := l.lock()
	defer l.mu.Unlock()
	if l.engine != e {
		return 0
	}
	result, skip := l.learner.Observe(now, o.failed, o.injected), l.quiet.counted
	switch {
	case o.learnt > 0:
		skip = int64(l.learner.ObserveDuration(now, o.learnt))
	case !o.failed:
		skip = max(skip-1, 0)
	}
	l.learnt(now, skip)
	switch result {
	case adaptive.Open:
		return uint32(min(l.learner.EvidenceFailures(), math.MaxUint32)) // #nosec G115 -- it is limited
	case adaptive.Shadowed:
		l.report(now, events.AdaptiveEvidence)
	}
	return 0
}

// needsDuration reports whether the duration of the next success is to be in its outcome.
func (l *learning) needsDuration() bool { return l.active.Load() && l.quiet.needDuration() }

// slowCallDuration returns the duration from which on a call is slow.
func (l *learning) slowCallDuration(p *Policy) time.Duration {
	if p.SlowCall.Auto() {
		return time.Duration(l.slowCall.Load())
	}
	return p.SlowCallDuration
}

// probed tells the result of a probe. One into which a fault was injected is no probe.
func (l *learning) probed(o *outcome) {
	if !l.waiting.Load() || o.injected {
		return
	}
	now := l.lock()
	defer l.mu.Unlock()
	l.judge(now, o.failed)
}

// judge tells the learner the result of the probes. l.mu is held.
func (l *learning) judge(now time.Duration, failed bool) {
	if l.learner.Probed(failed) {
		l.report(now, events.AdaptiveDemoted)
	}
	l.waiting.Store(false)
}

// report adds a report that is to be published. l.mu is held.
func (l *learning) report(now time.Duration, kind events.AdaptiveReportKind) {
	s := l.learner.Status(now)
	l.reports = append(l.reports, events.AdaptiveReport{
		Time: l.env.now(), Report: kind, FailureRatio: s.FailureRatio, Calls: s.EvidenceCalls, Failures: s.EvidenceFailures,
	})
	l.hasReports.Store(true)
}

// takeReports returns the reports since its last call.
func (l *learning) takeReports() []events.AdaptiveReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	reports := l.reports
	l.reports = nil
	l.hasReports.Store(false)
	return reports
}

// phaseChanged tells that next follows prev. The failures of the closed state were of kind.
func (l *learning) phaseChanged(prev, next *phase, policy *Policy, kind events.ErrorType) {
	now := l.lock()
	defer l.mu.Unlock()
	if l.engine = nil; next.state == events.Closed && next.forced == nil {
		l.engine = next.engine
	}
	if l.learner == nil {
		return
	}
	opened := prev.state == events.Closed && next.state == events.Open
	switch {
	case prev.forced != nil, next.forced != nil, next.cause == events.CauseForced, next.cause == events.CauseRestored:
		l.learner.Interrupted()
	case next.cause == events.CauseFleet:
		l.followFleet(now, prev, next)
	case opened && next.cause == events.CauseAdaptive:
		s := l.learner.Status(now)
		calls := max(s.EvidenceCalls, 1) // 0 if the baseline has been reset since
		interval := (now - s.EvidenceSince) / time.Duration(calls)
		l.learner.OpenedByEvidence(policy.wouldOpen(float64(s.EvidenceFailures)/float64(calls), interval, kind))
	case opened:
		if l.learner.OpenedByLimit() {
			l.report(now, events.AdaptiveRestored)
		}
	}
	if next.state == events.Closed && (prev.state != events.Closed || prev.engine != next.engine) {
		l.learner.Recovered(now)
	}
	l.waiting.Store(l.learner.WaitsForProbe())
	l.learnt(now, 0)
}

// followFleet tells that next follows prev by a decision of the fleet. l.mu is held.
func (l *learning) followFleet(now time.Duration, prev, next *phase) {
	switch {
	case next.fleetCause == events.CauseForced, next.fleetCause == events.CauseReleased: // by an operator, at another instance
		l.learner.Interrupted()
	case prev.state == events.Closed && next.state == events.Open:
		l.learner.Interrupted()
	case next.fleetCause == events.CauseProbesSucceeded, next.fleetCause == events.CauseProbeFailed: // of another instance
		l.judge(now, next.fleetCause == events.CauseProbeFailed)
	case next.state == events.Closed: // for a reason that this version does not know
		l.learner.Interrupted()
	}
}

// status returns what has been learnt.
func (l *learning) status(p *Policy) events.Baseline {
	now := l.lock()
	defer l.mu.Unlock()
	if l.learner == nil {
		return events.Baseline{Mode: adaptive.Off.String(), SlowCallDuration: p.SlowCallDuration, Explanation: "off: nothing is learnt"}
	}
	s := l.learner.Status(now)
	if p.Mode == Off { // that of the breaker, in which the learner sees no calls
		s.Mode, s.Demoted, s.Evidence, s.Explanation = adaptive.Off, false, 0, "off: nothing is learnt, because breaker.mode is off"
		if s.Calls == 0 {
			s.FailureRatio = 0
		}
	}
	return events.Baseline{
		Mode: s.Mode.String(), Demoted: s.Demoted, FailureRatio: s.FailureRatio, Calls: s.Calls, Warm: s.Warm, Evidence: s.Evidence,
		Latency: events.Latency(s.Latency), SlowCallDuration: l.slowCallDuration(p),
		Openings: events.AdaptiveOpenings(s.Openings), Explanation: s.Explanation,
	}
}
