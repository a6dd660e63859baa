package adaptive

import "math/bits"

// Openings counts the openings of a breaker by the evidence, by the verdict on each. Which one it gets, exactly:
//
//   - In the mode Enforce an opening is judged by the first probe after it. It is refuted if that probe succeeded. Otherwise it is
//     earlier if the other limits of the breaker would have opened it within the next thousand calls, had those arrived at the rate and
//     failed with the ratio of the calls of the evidence; and only adaptive if not.
//   - In the mode Shadow, and after a demotion, an incident begins when the evidence is complete. It is earlier if the breaker opens
//     before the evidence is 0 again, and only adaptive if the evidence is 0 before. Earlier ends a demotion: the evidence was right,
//     and what has refuted the openings before may have been the probes that succeed in a partial outage.
//
// There is no verdict on an opening or an incident with injected faults among the calls of its evidence, nor on one that a forced state
// has ended before, nor on an incident in which the fleet has opened the breaker or the mode became Off. The probes of the fleet judge like those of the breaker.
type Openings struct{ Earlier, OnlyAdaptive, Refuted uint64 }

const (
	recentOpenings = 10 // the openings that count for a demotion
	maxRefuted     = 3  // the number of those that may be refuted
)

// trackRecord judges the openings by the evidence, and demotes a learner of which too many were refuted.
type trackRecord struct {
	openings Openings
	recent   uint16 // a bit for each of the last openings in the mode Enforce, the last one lowest; 1: refuted
	demoted  bool   // the mode Enforce is in force as Shadow

	waiting bool // an opening waits for its first probe; earlier is its verdict if that fails
	earlier bool

	incident bool // the evidence was complete in the mode Shadow and has not been 0 since; counted: it gets a verdict
	counted  bool
}

// begin begins an incident in the mode Shadow, and reports whether it is a new one.
func (t *trackRecord) begin(injected bool) bool {
	if t.incident {
		return false
	}
	t.incident, t.counted = true, !injected
	return true
}

// subsided tells that the evidence is 0.
func (t *trackRecord) subsided() {
	if t.incident && t.counted {
		t.openings.OnlyAdaptive++
	}
	t.incident = false
}

// judge ends an opening in the mode Enforce, and reports whether it has caused a demotion.
func (t *trackRecord) judge(refuted bool) (demoted bool) {
	t.waiting = false
	t.recent = t.recent << 1 & (1<<recentOpenings - 1)
	switch {
	case refuted:
		t.recent |= 1
		t.openings.Refuted++
	case t.earlier:
		t.openings.Earlier++
	default:
		t.openings.OnlyAdaptive++
	}
	demoted = !t.demoted && bits.OnesCount16(t.recent) > maxRefuted
	t.demoted = t.demoted || demoted
	return demoted
}

// endDemotion ends a demotion. The openings before it no longer count for another one.
func (t *trackRecord) endDemotion() { t.demoted, t.recent = false, 0 }

// OpenedByEvidence tells that the result Open has opened the breaker. earlier is whether its other limits would have opened it soon.
func (l *Learner) OpenedByEvidence(earlier bool) {
	l.record.incident = false
	l.record.waiting, l.record.earlier = !l.detector.injected, earlier
}

// OpenedByLimit tells that another limit of the breaker has opened it, and reports whether that has ended a demotion.
func (l *Learner) OpenedByLimit() (restored bool) {
	t := &l.record
	if t.incident && t.counted {
		t.openings.Earlier++
		if restored = t.demoted; restored {
			t.endDemotion()
		}
	}
	t.incident = false
	return restored
}

// Interrupted tells that a state was set from outside: by an operator, by the fleet or by a restart.
func (l *Learner) Interrupted() { l.record.incident, l.record.waiting = false, false }

// Probed tells the result of a probe, and reports whether it has caused a demotion.
func (l *Learner) Probed(failed bool) (demoted bool) {
	return l.record.waiting && l.record.judge(!failed)
}

// WaitsForProbe reports whether an opening by the evidence waits for its first probe.
func (l *Learner) WaitsForProbe() bool { return l.record.waiting }
