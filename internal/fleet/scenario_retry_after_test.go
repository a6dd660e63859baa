package fleet

import (
	"testing"
	"time"

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
