package fleet

import (
	"testing"
	"time"

	"cbproxy/internal/events"
)

// execute passes a command to a node and returns the channel that receives its result.
func (sim *simulation) execute(n *node, o *command) chan error {
	o.done = make(chan error, 1)
	n.command = o
	sim.after(0, n.step)
	return o.done
}

func TestForceAppliesToWholeFleet(t *testing.T) {
	scenario(t, 3, 2, func(t *testing.T, sim *simulation) {
		done := sim.execute(sim.nodes[1], &command{state: events.Open, duration: 5 * time.Second, reason: "maintenance"})
		sim.waitUntil("all open", time.Second, sim.all(events.Open))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, n := range sim.nodes {
			if h := n.breaker.Status().Forced; h == nil || !h.Shared || h.Reason != "maintenance" {
				t.Errorf("%s: forced state %+v", n.instance, h)
			}
		}
		sim.addNode()
		sim.waitUntil("a joining instance applies the forced state", time.Second, sim.all(events.Open))
		sim.run(4 * time.Second)
		if !sim.all(events.Open)() {
			t.Error("the forced state ended early")
		}
		sim.waitUntil("all close after the forced state and a probe", 5*time.Second, sim.all(events.Closed))

		sim.execute(sim.nodes[0], &command{state: events.Closed, reason: "false alarm"})
		sim.run(time.Second)
		sim.upstream = false
		sim.run(10 * time.Second)
		if !sim.all(events.Closed)() {
			t.Error("a breaker that is forced closed opened")
		}
		sim.execute(sim.nodes[2], &command{release: true})
		sim.waitUntil("all open after the release", 10*time.Second, sim.all(events.Open))
		sim.execute(sim.nodes[2], &command{state: events.HalfOpen})
		sim.waitUntil("one probes after the command", time.Second, sim.some(events.HalfOpen))
	})
}

// When a command completes, the breaker of its instance is in the forced state.
func TestCommandCompletesWhenApplied(t *testing.T) {
	scenario(t, 1, 1, func(t *testing.T, sim *simulation) {
		n := sim.nodes[0]
		for _, o := range []*command{{state: events.Open}, {state: events.Closed}, {state: events.Open}, {release: true}} {
			done := sim.execute(n, o)
			for range 1_000_000 { // steps short enough to observe the moment of completion
				if sim.run(100 * time.Nanosecond); len(done) > 0 {
					break
				}
			}
			if len(done) == 0 || <-done != nil {
				t.Fatalf("%+v failed", o)
			}
			s := n.breaker.Status()
			if o.release && s.Forced != nil || !o.release && (s.Forced == nil || s.State != o.state) {
				t.Errorf("%+v completed while the breaker is %s, forced state %+v", o, s.State, s.Forced)
			}
		}
	})
}

func TestCommandFailsWithoutRedis(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, sim *simulation) {
		sim.network.stopped = true
		done := sim.execute(sim.nodes[0], &command{state: events.Open})
		sim.run(2 * time.Second)
		select {
		case err := <-done:
			if err == nil {
				t.Error("a command that Redis did not receive succeeded")
			}
		default:
			t.Error("the command has not completed")
		}
		sim.network.stopped = false
		sim.run(10 * time.Second)
		if !sim.all(events.Closed)() {
			t.Error("the failed command took effect later")
		}
	})
}

// A state forced at one instance applies to that instance only; it follows the fleet after the release.
func TestForcedInstanceIgnoresFleet(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		forced := sim.nodes[0]
		forced.breaker.Force(events.Closed, 0, "")
		sim.upstream = false
		sim.waitUntil("the other instances open", 10*time.Second, func() bool {
			return sim.nodes[1].breaker.State() == events.Open && sim.nodes[2].breaker.State() == events.Open
		})
		sim.run(time.Second)
		if forced.breaker.State() != events.Closed {
			t.Error("the fleet changed the forced state")
		}
		forced.breaker.Release("")
		sim.waitUntil("it follows the fleet", time.Second, func() bool { return forced.breaker.State() == events.Open })
	})
}

// Half-open forced at one instance ends the fleet's opening early: that instance probes for all.
func TestForcedHalfOpenEndsOpeningEarly(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.upstream = true
		sim.nodes[1].breaker.Force(events.HalfOpen, 0, "")
		sim.waitUntil("all closed", 3*time.Second, sim.all(events.Closed))

		sim.upstream = false
		sim.waitUntil("all open", 10*time.Second, sim.all(events.Open))
		sim.upstream = true
		sim.execute(sim.nodes[2], &command{state: events.HalfOpen})
		sim.waitUntil("all closed", 3*time.Second, sim.all(events.Closed))
	})
}

// The instance that detected the failure follows an early probe of another instance.
func TestDetectingInstanceFollowsEarlyProbe(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, sim *simulation) {
		sim.upstream, sim.nodes[0].idle, sim.nodes[2].idle = false, true, true
		sim.waitUntil("all open", 20*time.Second, sim.all(events.Open))
		detecting, other := sim.nodes[1], sim.nodes[0]
		if s := detecting.breaker.Status(); !openedByItself(&s) {
			t.Fatalf("another instance detected the failure: %+v", s)
		}
		sim.upstream = true
		other.breaker.Force(events.HalfOpen, 0, "")
		sim.waitUntil("the detecting instance is half-open too", time.Second, func() bool { return detecting.breaker.State() == events.HalfOpen })
		sim.waitUntil("all closed", 10*time.Second, sim.all(events.Closed))
	})
}
