package breaker

import (
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// learning gives the adaptive.Learner of a breaker, which all closed states use, a lock and a clock, and tells it of the states of the
// breaker. It is safe for concurrent use.
type learning struct {
	mode       atomic.Int32 // an adaptive.Mode, as it is configured
	waiting    atomic.Bool  // whether the next probe judges an opening
	hasReports atomic.Bool  // whether reports is not empty, so that calls take no lock
	env        *Environment

	mu      sync.Mutex
	learner *adaptive.Learner // nil: it has never been used; guarded by mu
	base    time.Time         // when it was made; guarded by mu
	// engine is that of the current closed state; nil in other states, and while the state is forced. Calls that other engines have
	// admitted are not counted. Guarded by mu.
	engine  *engine
	reports []events.AdaptiveReport // not published yet; guarded by mu
}

// configure applies o. What was learnt is kept.
func (l *learning) configure(o adaptive.Options) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.learner != nil:
		l.learner.Configure(o)
	case o.Mode != adaptive.Off:
		l.learner, l.base = adaptive.NewLearner(o), l.env.now()
	}
	l.mode.Store(int32(o.Mode))
}

// now returns the time since the learner was made. l.mu is held.
func (l *learning) now() time.Duration { return l.env.since(l.base) }

// observe counts a call of a closed state of e, and reports whether the breaker opens.
func (l *learning) observe(e *engine, o *outcome) bool {
	if adaptive.Mode(l.mode.Load()) == adaptive.Off {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.engine != e {
		return false
	}
	switch l.learner.Observe(l.now(), o.failed, o.injected) {
	case adaptive.Open:
		return true
	case adaptive.Shadowed:
		l.report(events.AdaptiveEvidence)
	}
	return false
}

// probed tells the result of a probe. One into which a fault was injected is no probe.
func (l *learning) probed(o *outcome) {
	if !l.waiting.Load() || o.injected {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.judge(o.failed)
}

// judge tells the learner the result of the probes. l.mu is held.
func (l *learning) judge(failed bool) {
	if l.learner.Probed(failed) {
		l.report(events.AdaptiveDemoted)
	}
	l.waiting.Store(false)
}

// report adds a report that is to be published. l.mu is held.
func (l *learning) report(kind events.AdaptiveReportKind) {
	s := l.learner.Status(l.now())
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
	l.mu.Lock()
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
		l.followFleet(prev, next)
	case opened && next.cause == events.CauseAdaptive:
		s := l.learner.Status(l.now())
		calls := max(s.EvidenceCalls, 1) // 0 if the baseline has been reset since
		interval := (l.now() - s.EvidenceSince) / time.Duration(calls)
		l.learner.OpenedByEvidence(policy.wouldOpen(float64(s.EvidenceFailures)/float64(calls), interval, kind))
	case opened:
		if l.learner.OpenedByLimit() {
			l.report(events.AdaptiveRestored)
		}
	}
	if next.state == events.Closed && (prev.state != events.Closed || prev.engine != next.engine) {
		l.learner.Recovered(l.now())
	}
	l.waiting.Store(l.learner.WaitsForProbe())
}

// followFleet tells that next follows prev by a decision of the fleet. l.mu is held.
func (l *learning) followFleet(prev, next *phase) {
	switch {
	case next.fleetCause == events.CauseForced, next.fleetCause == events.CauseReleased: // by an operator, at another instance
		l.learner.Interrupted()
	case prev.state == events.Closed && next.state == events.Open:
		l.learner.Interrupted()
	case next.fleetCause == events.CauseProbesSucceeded, next.fleetCause == events.CauseProbeFailed: // of another instance
		l.judge(next.fleetCause == events.CauseProbeFailed)
	case next.state == events.Closed: // for a reason that this version does not know
		l.learner.Interrupted()
	}
}

// status returns what has been learnt.
func (l *learning) status() events.Baseline {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.learner == nil {
		return events.Baseline{Mode: adaptive.Off.String(), Explanation: "off: nothing is learnt"}
	}
	s := l.learner.Status(l.now())
	return events.Baseline{
		Mode: s.Mode.String(), Demoted: s.Demoted, FailureRatio: s.FailureRatio, Calls: s.Calls, Warm: s.Warm, Evidence: s.Evidence,
		Openings: events.AdaptiveOpenings(s.Openings), Explanation: s.Explanation,
	}
}
