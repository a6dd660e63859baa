package fleet

import (
	"testing"
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// adaptiveScenario runs a scenario in which all instances learn, and have learnt that the upstream is healthy. They have no traffic of
// their own, and their other limit is 20 consecutive failures.
func adaptiveScenario(t *testing.T, n, quorum int, run func(t *testing.T, sim *simulation)) {
	scenario(t, n, quorum, func(t *testing.T, sim *simulation) {
		sim.policy.FailMax, sim.policy.RecoveryTimeout = 20, 30*time.Second
		sim.policy.RecoveryBackoff.Multiplier = 1
		sim.policy.Adaptive = adaptive.Options{Mode: adaptive.Enforce, FalseAlarm: 1e-8, MinRatio: 0.2, Floor: 0.01, Cap: 0.1, WarmupCalls: 50}
		for _, n := range sim.nodes {
			n.idle = true
			n.breaker.SetPolicy(sim.policy)
			n.report(200, true)
		}
		run(t, sim)
	})
}

// report makes calls that succeed or fail at once. It ends earlier if the breaker rejects one.
func (n *node) report(calls int, ok bool) {
	for range calls {
		call, err := n.breaker.Allow()
		switch {
		case err != nil:
			return
		case ok:
			call.Success(time.Millisecond)
		default:
			call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, time.Millisecond)
		}
	}
}

// openByEvidence makes calls fail until the breaker opens.
func (n *node) openByEvidence() {
	n.sim.t.Helper()
	if n.report(15, false); n.breaker.Status().Cause != events.CauseAdaptive {
		n.sim.fatalf("%s is %+v, want it open by the evidence", n.instance, n.breaker.Status())
	}
}

// probe lets an instance, which wants to, become the prober, and reports the result of its probe.
func (sim *simulation) probe(n *node, ok bool) {
	sim.t.Helper()
	sim.waitUntil("the instance may probe", time.Minute, func() bool {
		call, err := n.breaker.Allow()
		switch {
		case err != nil:
			return false
		case ok:
			call.Success(time.Millisecond)
		default:
			call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, time.Millisecond)
		}
		return true
	})
	sim.run(time.Second) // the other instances apply the result
}

// wantVerdicts checks the verdicts on the openings of n.
func (n *node) wantVerdicts(when string, want events.AdaptiveOpenings) {
	n.sim.t.Helper()
	if got := n.breaker.Baseline().Openings; got != want {
		n.sim.t.Errorf("%s: the verdicts of %s are %+v, want %+v", when, n.instance, got, want)
	}
}

// An opening by the evidence is a finding: with a quorum of one it opens all. What was learnt is not shared.
func TestAdaptiveOpeningOpensAll(t *testing.T) {
	adaptiveScenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.nodes[0].openByEvidence()
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
		end := sim.nodes[0].breaker.RetryAt()
		for _, n := range sim.nodes[1:] {
			s, b := n.breaker.Status(), n.breaker.Baseline()
			if s.Cause != events.CauseFleet || s.RetryAt.Sub(end).Abs() > 8*time.Millisecond || b.Calls != 200 || b.Evidence != 0 {
				t.Errorf("%s: %+v, %+v", n.instance, s, b)
			}
		}
		sim.addNode()
		joined := sim.nodes[3]
		joined.idle = true
		sim.waitUntil("a joining instance opens", time.Second, sim.all(events.Open))
		if b := joined.breaker.Baseline(); b.Calls != 0 || b.Warm {
			t.Errorf("a joining instance has learnt %+v", b)
		}
	})
}

// Below the quorum an instance that has opened by its evidence is open alone, probes alone, and gets its verdict from that.
func TestAdaptiveOpeningsCountTowardsQuorum(t *testing.T) {
	adaptiveScenario(t, 4, 2, func(t *testing.T, sim *simulation) {
		first, second := sim.nodes[0], sim.nodes[1]
		first.openByEvidence()
		sim.run(20 * time.Second)
		for _, n := range sim.nodes[1:] {
			if n.breaker.State() != events.Closed {
				sim.fatalf("%s opened by one finding of two", n.instance)
			}
		}
		sim.probe(first, true)
		first.wantVerdicts("refuted alone", events.AdaptiveOpenings{Refuted: 1})
		if !sim.all(events.Closed)() {
			t.Error("a breaker is not closed")
		}

		sim.run(2 * time.Minute)
		first.openByEvidence()
		sim.run(time.Second)
		second.openByEvidence()
		sim.waitUntil("all open by two findings", time.Second, sim.all(events.Open))
		sim.probe(sim.nodes[3], false)
		first.wantVerdicts("confirmed by another instance", events.AdaptiveOpenings{Refuted: 1, Earlier: 1})
		second.wantVerdicts("confirmed by another instance", events.AdaptiveOpenings{Earlier: 1})
		sim.probe(sim.nodes[2], true)
		first.wantVerdicts("after the second probe", events.AdaptiveOpenings{Refuted: 1, Earlier: 1})
		for _, n := range sim.nodes[2:] {
			n.wantVerdicts("opened by the fleet", events.AdaptiveOpenings{})
		}
	})
}

// The first probe of the fleet judges the opening, whichever instance sends it.
func TestProbeOfAnotherInstanceJudgesAdaptiveOpening(t *testing.T) {
	for _, ok := range []bool{true, false} {
		adaptiveScenario(t, 3, 1, func(t *testing.T, sim *simulation) {
			first, prober := sim.nodes[0], sim.nodes[2]
			first.openByEvidence()
			sim.waitUntil("all open", time.Second, sim.all(events.Open))
			sim.probe(prober, ok)
			want := events.AdaptiveOpenings{Refuted: 1}
			if !ok {
				want = events.AdaptiveOpenings{Earlier: 1}
				first.wantVerdicts("after the first probe", want)
				sim.probe(prober, true)
			}
			first.wantVerdicts("at the end", want)
			prober.wantVerdicts("opened by the fleet", events.AdaptiveOpenings{})
			if !sim.all(events.Closed)() {
				t.Error("a breaker is not closed")
			}
		})
	}
}

// An instance that opens while the fleet's opening is on its way keeps its own, later end. The probe that fails before that end is the
// first one after its opening.
func TestProbeBeforeOwnEndJudgesAdaptiveOpening(t *testing.T) {
	adaptiveScenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		first, late, prober := sim.nodes[0], sim.nodes[1], sim.nodes[2]
		sim.network.delay = 0
		late.cutOff = true
		first.openByEvidence()
		sim.run(2 * time.Second)
		late.openByEvidence()
		late.cutOff = false
		sim.run(10 * time.Second)
		if off := late.breaker.RetryAt().Sub(first.breaker.RetryAt()); off < time.Second {
			sim.fatalf("the late instance ends its opening %v after the first one", off)
		}
		sim.probe(prober, false)
		if s := late.breaker.Status(); s.State != events.Open {
			sim.fatalf("%+v", s)
		}
		late.wantVerdicts("after the first probe", events.AdaptiveOpenings{Earlier: 1})
		sim.probe(prober, true)
		late.wantVerdicts("after the second probe", events.AdaptiveOpenings{Earlier: 1})
		first.wantVerdicts("after the second probe", events.AdaptiveOpenings{Earlier: 1})
	})
}

// There is no verdict on an opening that an operator has ended for the fleet, at whichever instance.
func TestForcedFleetGivesNoVerdict(t *testing.T) {
	for name, commands := range map[string][]*command{
		"open":      {{state: events.Open, duration: time.Hour}, {release: true}},
		"closed":    {{state: events.Closed}, {release: true}},
		"half-open": {{state: events.HalfOpen}},
	} {
		for _, at := range []int{0, 1} {
			adaptiveScenario(t, 2, 1, func(t *testing.T, sim *simulation) {
				sim.nodes[0].openByEvidence()
				sim.waitUntil("all open", time.Second, sim.all(events.Open))
				for _, c := range commands {
					done := sim.execute(sim.nodes[at], c)
					if sim.run(time.Second); len(done) == 0 || <-done != nil {
						sim.fatalf("%+v has failed", c)
					}
				}
				sim.probe(sim.nodes[1], true)
				for _, n := range sim.nodes {
					n.wantVerdicts(name, events.AdaptiveOpenings{})
					if n.breaker.State() != events.Closed {
						t.Errorf("%s: %s is %v", name, n.instance, n.breaker.State())
					}
				}
			})
		}
	}
}

// In shadow mode complete evidence is no finding, and there is no verdict on an incident during which the fleet opens.
func TestShadowEvidenceOpensNoInstance(t *testing.T) {
	adaptiveScenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		shadow := sim.nodes[0]
		policy := sim.policy
		policy.Adaptive.Mode = adaptive.Shadow
		shadow.breaker.SetPolicy(policy)
		shadow.report(15, false)
		sim.run(time.Minute)
		if b := shadow.breaker.Baseline(); b.Evidence != 1 || !sim.all(events.Closed)() || sim.nodes[1].known.State != events.Closed {
			t.Errorf("%+v, or an instance is open", b)
		}
		sim.nodes[1].openByEvidence()
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
		sim.probe(sim.nodes[1], true)
		sim.run(2 * time.Minute)
		shadow.report(100, true)
		shadow.wantVerdicts("in shadow mode", events.AdaptiveOpenings{})
	})
}

// A demotion is that of one instance: it follows the fleet, and the other instances still open by their evidence.
func TestDemotionConcernsOneInstance(t *testing.T) {
	adaptiveScenario(t, 2, 1, func(t *testing.T, sim *simulation) {
		demoted, other := sim.nodes[0], sim.nodes[1]
		for range 4 {
			demoted.openByEvidence()
			sim.waitUntil("all open", time.Second, sim.all(events.Open))
			sim.probe(other, true)
			sim.waitUntil("all closed", time.Minute, sim.all(events.Closed))
			sim.run(2 * time.Minute)
		}
		if b := demoted.breaker.Baseline(); !b.Demoted || b.Openings.Refuted != 4 {
			t.Errorf("%+v", b)
		}
		demoted.report(15, false)
		if sim.run(time.Second); !sim.all(events.Closed)() {
			t.Error("the evidence of a demoted instance has opened a breaker")
		}
		if b := other.breaker.Baseline(); b.Demoted || b.Mode != "enforce" {
			t.Errorf("%+v", b)
		}
		other.openByEvidence()
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
	})
}
