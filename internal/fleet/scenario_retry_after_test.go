package fleet

import (
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// setRetryAfter makes all breakers open by Retry-After, and ramp up after they have closed.
func (sim *simulation) setRetryAfter() {
	sim.policy.RetryAfter, sim.policy.RetryAfterMax, sim.policy.RecoveryRamp = 1, 5*time.Minute, 20*time.Second
	for _, n := range sim.nodes {
		n.breaker.SetPolicy(sim.policy)
	}
}

// An opening by Retry-After is a finding: the other instances open, too, until the same time, which the policy does not change.
func TestRetryAfterOpensAllUntilSameEnd(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.setRetryAfter()
		end := time.Now().Add(40 * time.Second)
		answer(t, sim.nodes[0].breaker, end)
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
		for i := range 38 {
			sim.run(time.Second)
			if i == 20 { // a new configuration of all instances
				sim.policy.RecoveryTimeout = 7 * time.Second
				sim.setRetryAfter()
			}
			for _, n := range sim.nodes {
				s := n.breaker.Status()
				if s.State != events.Open || s.RetryAt.Sub(end).Abs() > 8*time.Millisecond {
					sim.fatalf("%s is %v by %s until %v, want open until %v", n.instance, s.State, s.Cause, s.RetryAt, end)
				}
			}
		}
		sim.waitUntil("all closed", 10*time.Second, sim.all(events.Closed))
		for _, n := range sim.nodes {
			if got := n.breaker.Status().AdmittedRatio; got > 0.2 {
				t.Errorf("%s admits a share of %v directly after the fleet has closed", n.instance, got)
			}
		}
	})
}

// One instance of a quorum of two opens alone; the second one opens all, until the end that it has been told.
func TestRetryAfterCountsTowardsQuorum(t *testing.T) {
	scenario(t, 4, 2, func(t *testing.T, sim *simulation) {
		sim.setRetryAfter()
		for _, n := range sim.nodes {
			n.idle = true // the upstream asks no other call to wait
		}
		answer(t, sim.nodes[0].breaker, time.Now().Add(40*time.Second))
		sim.run(time.Second)
		for _, n := range sim.nodes[1:] {
			if n.breaker.State() != events.Closed {
				sim.fatalf("%s opened by one finding of two", n.instance)
			}
		}
		end := time.Now().Add(50 * time.Second)
		answer(t, sim.nodes[1].breaker, end)
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
		for _, n := range sim.nodes[1:] {
			if off := n.breaker.RetryAt().Sub(end).Abs(); off > 8*time.Millisecond {
				t.Errorf("the opening of %s ends %v apart", n.instance, off)
			}
		}
	})
}

// The probe of the fleet is asked to wait: all wait.
func TestProbeThatIsAnsweredWithRetryAfterReopensAll(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.setRetryAfter()
		for _, n := range sim.nodes {
			n.idle = true
		}
		answer(t, sim.nodes[0].breaker, time.Now().Add(5*time.Second))
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
		sim.waitUntil("half-open with a prober", 20*time.Second, func() bool {
			p := sim.prober()
			return p != nil && p.breaker.State() == events.HalfOpen
		})
		end := time.Now().Add(30 * time.Second)
		answer(t, sim.prober().breaker, end)
		sim.waitUntil("all open until the new end", 2*time.Second, func() bool {
			for _, n := range sim.nodes {
				if s := n.breaker.Status(); s.State != events.Open || s.RetryAt.Sub(end).Abs() > 8*time.Millisecond {
					return false
				}
			}
			return true
		})
	})
}

// wantEnd waits until the breakers of all instances are open until end.
func (sim *simulation) wantEnd(end time.Time) {
	sim.t.Helper()
	sim.waitUntil("all open until the same end", time.Second, func() bool {
		for _, n := range sim.nodes {
			if s := n.breaker.Status(); s.State != events.Open || s.RetryAt.Sub(end).Abs() > 8*time.Millisecond {
				return false
			}
		}
		return true
	})
}

// A response that arrives while all are open prolongs the opening of all, whichever instance gets it, and one with an earlier time shortens none.
func TestRetryAfterProlongsTheOpeningOfAll(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.setRetryAfter()
		var late [3]breaker.Call // in flight when the breakers open
		for i, n := range sim.nodes {
			n.idle = true
			late[i], _ = n.breaker.Allow()
		}
		begin := time.Now()
		answer(t, sim.nodes[0].breaker, begin.Add(10*time.Second))
		sim.wantEnd(begin.Add(10 * time.Second))
		late[1].RetryAfter(begin.Add(5 * time.Second))
		sim.run(time.Second)
		sim.wantEnd(begin.Add(10 * time.Second))
		late[2].RetryAfter(begin.Add(40 * time.Second))
		sim.wantEnd(begin.Add(40 * time.Second))
		sim.run(38 * time.Second) // no prober before
		sim.wantEnd(begin.Add(40 * time.Second))
		for _, n := range sim.nodes {
			n.idle = false
		}
		sim.waitUntil("all closed", 20*time.Second, sim.all(events.Closed))
	})
}

// Two instances open and prolong at the same time: the latest end applies to all, whichever decision is the last one.
func TestLatestEndAppliesIfInstancesProlongAtOnce(t *testing.T) {
	for first := range 2 {
		scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
			sim.setRetryAfter()
			var late [2]breaker.Call
			for i, n := range sim.nodes {
				if n.idle = true; i < 2 {
					late[i], _ = n.breaker.Allow()
				}
			}
			begin := time.Now()
			answer(t, sim.nodes[first].breaker, begin.Add(10*time.Second))
			answer(t, sim.nodes[1-first].breaker, begin.Add(20*time.Second))
			sim.wantEnd(begin.Add(20 * time.Second))
			late[first].RetryAfter(begin.Add(50 * time.Second))
			late[1-first].RetryAfter(begin.Add(40 * time.Second))
			sim.wantEnd(begin.Add(50 * time.Second))
		})
	}
}

// The prober of an opening that is prolonged before it ends waits, too.
func TestProlongedOpeningEndsTheProbersRight(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, sim *simulation) {
		sim.setRetryAfter()
		late, _ := sim.nodes[1].breaker.Allow()
		for _, n := range sim.nodes {
			n.idle = true
		}
		begin := time.Now()
		answer(t, sim.nodes[0].breaker, begin.Add(5*time.Second))
		sim.waitUntil("a prober before the end", 6*time.Second, func() bool { return sim.prober() != nil })
		if !time.Now().Before(begin.Add(5 * time.Second)) {
			t.Fatal("the opening has ended")
		}
		late.RetryAfter(begin.Add(30 * time.Second))
		sim.wantEnd(begin.Add(30 * time.Second))
		if p := sim.prober(); p != nil {
			t.Errorf("%s is still the prober", p.instance)
		}
	})
}
