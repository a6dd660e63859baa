package fleet

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

// scenario runs a test with n instances and a network without faults.
func scenario(t *testing.T, n, quorum int, run func(t *testing.T, sim *simulation)) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, 1)
		for len(sim.nodes) > 0 {
			sim.kill(sim.nodes[0])
		}
		sim.network, sim.quorum, sim.pace = network{delay: 2 * time.Millisecond}, quorum, 500*time.Millisecond
		for range n {
			sim.addNode()
		}
		defer func() {
			for _, n := range slices.Clone(sim.nodes) {
				sim.kill(n)
			}
		}()
		sim.run(time.Second)
		run(t, sim)
		if t.Failed() {
			for _, line := range sim.log {
				t.Log(line)
			}
		}
	})
}

// waitUntil runs the simulation until done returns true, and returns how long that took.
func (sim *simulation) waitUntil(what string, timeout time.Duration, done func() bool) time.Duration {
	sim.t.Helper()
	begin := time.Now()
	for !done() {
		if time.Since(begin) > timeout {
			sim.fatalf("not within %v: %s", timeout, what)
		}
		sim.run(time.Millisecond)
	}
	return time.Since(begin)
}

func (sim *simulation) all(state events.State) func() bool {
	return func() bool {
		return !slices.ContainsFunc(sim.nodes, func(n *node) bool { return n.breaker.State() != state })
	}
}

func (sim *simulation) some(state events.State) func() bool {
	return func() bool {
		return slices.ContainsFunc(sim.nodes, func(n *node) bool { return n.breaker.State() == state })
	}
}

func (sim *simulation) prober() *node {
	for _, n := range sim.nodes {
		if time.Now().Before(n.permit.Load().until) {
			return n
		}
	}
	return nil
}

func TestOneOpeningOpensAllUntilSameEnd(t *testing.T) {
	scenario(t, 20, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("one opens", 10*time.Second, sim.some(events.Open))
		if took := sim.waitUntil("all open", time.Second, sim.all(events.Open)); took > 20*time.Millisecond {
			t.Errorf("the last one opened %v after the first", took)
		}
		end := sim.nodes[0].breaker.RetryAt()
		for _, n := range sim.nodes {
			if off := n.breaker.RetryAt().Sub(end).Abs(); off > 8*time.Millisecond {
				t.Errorf("the opening of %s ends %v apart", n.instance, off)
			}
		}
	})
}

func TestFailedProbeReopensAllForLonger(t *testing.T) {
	scenario(t, 5, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		first := sim.nodes[0].known.Epoch
		sim.waitUntil("half-open", 10*time.Second, sim.some(events.HalfOpen))
		sim.waitUntil("all open again", 3*time.Second, func() bool {
			return sim.all(events.Open)() && sim.nodes[0].known.Cause == events.CauseProbeFailed
		})
		for _, n := range sim.nodes {
			s := n.breaker.Status()
			if n.known.Epoch <= first || s.ConsecutiveOpenings != 2 || s.RetryAt.Sub(s.Since).Round(time.Second/10) != 6*time.Second {
				t.Errorf("%s: epoch %d, opening %d of %v", n.instance, n.known.Epoch, s.ConsecutiveOpenings, s.RetryAt.Sub(s.Since))
			}
		}
		sim.upstream = true
		sim.waitUntil("all closed", 15*time.Second, sim.all(events.Closed))
	})
}

func TestDeadProberIsReplaced(t *testing.T) {
	scenario(t, 4, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.waitUntil("there is a prober", 10*time.Second, func() bool { return sim.prober() != nil })
		sim.kill(sim.prober())
		sim.upstream = true
		left := time.Until(sim.nodes[0].breaker.RetryAt())
		if took := sim.waitUntil("all closed", 15*time.Second, sim.all(events.Closed)); took > left+2*leaseTime {
			t.Errorf("closed %v after the opening's end", took-left)
		}
	})
}

// The prober has no traffic; the other instances have.
func TestIdleProberReleasesWantedLease(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.waitUntil("there is a prober", 10*time.Second, func() bool { return sim.prober() != nil })
		sim.prober().idle, sim.upstream = true, true
		left := time.Until(sim.nodes[0].breaker.RetryAt())
		if took := sim.waitUntil("all closed", 20*time.Second, sim.all(events.Closed)); took > left+leaseTime {
			t.Errorf("closed %v after the opening's end", took-left)
		}
	})
}

func TestFailureBelowQuorumOpensNoOtherInstance(t *testing.T) {
	scenario(t, 4, 2, func(t *testing.T, sim *simulation) {
		broken := sim.nodes[0]
		broken.brokenRoute = true
		sim.waitUntil("the instance without a route opens", 10*time.Second, func() bool { return broken.breaker.State() == events.Open })
		for range 300 {
			sim.run(100 * time.Millisecond)
			if slices.ContainsFunc(sim.nodes[1:], func(n *node) bool { return n.breaker.State() != events.Closed }) {
				sim.fatalf("another instance opened")
			}
			if broken.breaker.State() == events.Closed {
				sim.fatalf("the instance without a route closed")
			}
		}
		sim.nodes[1].brokenRoute = true
		sim.waitUntil("all open by a quorum of two", 20*time.Second, sim.all(events.Open))
	})
}

func TestJoiningInstanceAppliesCurrentDecision(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.addNode()
		joined := sim.nodes[2]
		joined.idle = true
		sim.waitUntil("it opens", time.Second, func() bool { return joined.breaker.State() == events.Open })
		if off := joined.breaker.RetryAt().Sub(sim.nodes[0].breaker.RetryAt()).Abs(); off > 8*time.Millisecond {
			t.Errorf("the openings end %v apart", off)
		}
		if s := joined.breaker.Status(); s.Cause != events.CauseFleet || s.ConsecutiveOpenings != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestOldSnapshotReopensNoBreaker(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		old := sim.coordinator.states[simulatedService].State
		sim.upstream = true
		sim.waitUntil("all closed", 20*time.Second, sim.all(events.Closed))
		newest := sim.coordinator.states[simulatedService].State
		sim.coordinator.restore(simulatedService, &old)
		sim.truth.lost = time.Now()
		for range 50 {
			sim.run(time.Second)
			if !sim.all(events.Closed)() {
				sim.fatalf("a breaker opened again")
			}
		}
		if got := sim.coordinator.states[simulatedService].State; got != newest {
			t.Errorf("the coordinator has %+v, want %+v", got, newest)
		}
	})
}

func TestInstancesActAloneWithoutRedis(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.network.stopped, sim.upstream = true, true
		left := time.Until(sim.nodes[0].breaker.RetryAt())
		if took := sim.waitUntil("all closed", 20*time.Second, sim.all(events.Closed)); took > left+contactTimeout {
			t.Errorf("closed %v after the opening's end", took-left)
		}
		// The coordinator still has the opening; the later results of the instances replace it.
		sim.network.stopped = false
		sim.waitUntil("the coordinator has the recovery", 10*time.Second, func() bool {
			return sim.coordinator.states[simulatedService].State.State == events.Closed
		})
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.network.stopped = true
		sim.run(30 * time.Second)
		if !sim.all(events.Open)() && !sim.some(events.HalfOpen)() {
			t.Error("the fleet recovered while the upstream failed")
		}
	})
}

func TestInstancesActAloneWhenSharingIsOff(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		for _, n := range sim.nodes {
			n.unshared = true
		}
		sim.nodes[0].brokenRoute = true
		sim.waitUntil("it opens", 10*time.Second, func() bool { return sim.nodes[0].breaker.State() == events.Open })
		sim.run(3 * time.Second)
		if !(sim.nodes[1].breaker.State() == events.Closed && sim.nodes[2].breaker.State() == events.Closed) {
			t.Error("another instance followed")
		}
		sim.nodes[0].brokenRoute = false
		sim.waitUntil("it recovers", 10*time.Second, sim.all(events.Closed))
	})
}

// Two instances with few calls, each of which arrives while the other instance has the lease.
func TestAlternatingRareCallsCloseFleet(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.upstream, sim.nodes[0].idle, sim.nodes[1].idle = true, true, true
		turn := 0
		var call func()
		call = func() {
			sim.nodes[turn%2].call()
			turn++
			sim.after(2500*time.Millisecond, call)
		}
		sim.after(0, call)
		sim.waitUntil("all closed", 40*time.Second, sim.all(events.Closed))
	})
}

// Requests of one kind that always fail do not prevent recovery.
func TestFailingRequestsDoNotPreventRecovery(t *testing.T) {
	for _, kind := range []requestKind{merge, decide, acquire} {
		scenario(t, 2, 1, func(t *testing.T, sim *simulation) {
			sim.upstream = false
			sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
			sim.refused[kind], sim.upstream = true, true
			left := time.Until(sim.nodes[0].breaker.RetryAt())
			if took := sim.waitUntil("all closed", 20*time.Second, sim.all(events.Closed)); took > left+2*leaseTime+failureTimeout {
				t.Errorf("requests of kind %d fail: closed %v after the opening's end", kind, took-left)
			}
		})
	}
}

// Decisions older than what an instance detected while sharing was off do not change its state.
func TestEnablingSharingKeepsNewerState(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		for _, n := range sim.nodes {
			n.unshared = true
			sim.after(0, n.step)
		}
		sim.upstream = true
		sim.waitUntil("all closed", 10*time.Second, sim.all(events.Closed))
		for _, n := range sim.nodes {
			n.unshared = false
			sim.after(0, n.step)
		}
		for range 1000 {
			sim.run(10 * time.Millisecond)
			if !sim.all(events.Closed)() {
				sim.fatalf("a breaker left the closed state")
			}
		}
		if got := sim.coordinator.states[simulatedService].State.State; got != events.Closed {
			t.Errorf("the coordinator has %v", got)
		}
	})
}

// Findings that Redis has lost are sent again: those after the loss at once, those before it
// after the next merge.
func TestFindingsLostByRedisAreSentAgain(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.truth.lost = time.Now()
		sim.coordinator.restore(simulatedService, nil)
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
	})
	scenario(t, 3, 2, func(t *testing.T, sim *simulation) {
		sim.policy.Window = time.Hour
		for _, n := range sim.nodes {
			n.breaker.SetPolicy(sim.policy)
		}
		sim.nodes[0].brokenRoute = true
		sim.waitUntil("one opens", 10*time.Second, sim.some(events.Open))
		sim.run(time.Second)
		sim.truth.lost = time.Now()
		sim.coordinator.restore(simulatedService, nil)
		sim.nodes[1].brokenRoute = true
		sim.waitUntil("all open", 2*syncInterval, sim.all(events.Open))
	})
}
