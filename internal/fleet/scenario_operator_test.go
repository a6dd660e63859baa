package fleet

import (
	"testing"
	"time"

	"cbproxy/internal/events"
)

// give hands an operator's order to a node and returns what becomes of it.
func (w *world) give(n *node, o *command) chan error {
	o.done = make(chan error, 1)
	n.command = o
	w.after(0, n.step)
	return o.done
}

func TestOperatorHoldsTheWholeFleet(t *testing.T) {
	scenario(t, 3, 2, func(t *testing.T, w *world) {
		done := w.give(w.nodes[1], &command{state: events.Open, duration: 5 * time.Second, reason: "maintenance"})
		w.until("all open", time.Second, w.all(events.Open))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, n := range w.nodes {
			if h := n.breaker.Status().Forced; h == nil || !h.Shared || h.Reason != "maintenance" {
				t.Errorf("%s: hold %+v", n.instance, h)
			}
		}
		w.addNode()
		w.until("who joins is held too", time.Second, w.all(events.Open))
		w.run(4 * time.Second)
		if !w.all(events.Open)() {
			t.Error("it did not last")
		}
		w.until("it ends, and is probed", 5*time.Second, w.all(events.Closed))

		w.give(w.nodes[0], &command{state: events.Closed, reason: "we know better"})
		w.run(time.Second)
		w.upstream = false
		w.run(10 * time.Second)
		if !w.all(events.Closed)() {
			t.Error("a breaker that is held closed opened")
		}
		w.give(w.nodes[2], &command{release: true})
		w.until("released, they open", 10*time.Second, w.all(events.Open))
		w.give(w.nodes[2], &command{state: events.HalfOpen})
		w.until("ordered to, they probe", time.Second, w.some(events.HalfOpen))
	})
}

// An operator who is told that an order is in force, and then looks, finds it so.
func TestOrderIsAnsweredWhenItIsFollowed(t *testing.T) {
	scenario(t, 1, 1, func(t *testing.T, w *world) {
		n := w.nodes[0]
		for _, o := range []*command{{state: events.Open}, {state: events.Closed}, {state: events.Open}, {release: true}} {
			done := w.give(n, o)
			for range 1_000_000 { // finer than what follows an answer in the same goroutine
				if w.run(100 * time.Nanosecond); len(done) > 0 {
					break
				}
			}
			if len(done) == 0 || <-done != nil {
				t.Fatalf("%+v was not obeyed", o)
			}
			s := n.breaker.Status()
			if o.release && s.Forced != nil || !o.release && (s.Forced == nil || s.State != o.state) {
				t.Errorf("%+v is answered while the breaker is %s, hold %+v", o, s.State, s.Forced)
			}
		}
	})
}

func TestOrderThatCanNotBeGivenFails(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, w *world) {
		w.network.stopped = true
		done := w.give(w.nodes[0], &command{state: events.Open})
		w.run(2 * time.Second)
		select {
		case err := <-done:
			if err == nil {
				t.Error("an order that nobody took is said to be in force")
			}
		default:
			t.Error("it still waits")
		}
		w.network.stopped = false
		w.run(10 * time.Second)
		if !w.all(events.Closed)() {
			t.Error("it came into force later")
		}
	})
}

// One instance's operator holds that one; the fleet goes on, and is followed afterwards.
func TestHeldInstanceFollowsNobody(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		held := w.nodes[0]
		held.breaker.Force(events.Closed, 0, "")
		w.upstream = false
		w.until("the others open", 10*time.Second, func() bool {
			return w.nodes[1].breaker.State() == events.Open && w.nodes[2].breaker.State() == events.Open
		})
		w.run(time.Second)
		if held.breaker.State() != events.Closed {
			t.Error("the fleet moved it")
		}
		held.breaker.Release("")
		w.until("it follows", time.Second, func() bool { return held.breaker.State() == events.Open })
	})
}

// An operator may cut the fleet's opening short at one instance, which then probes for all.
func TestOpeningIsCutShort(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.upstream = true
		w.nodes[1].breaker.Force(events.HalfOpen, 0, "")
		w.until("all closed", 3*time.Second, w.all(events.Closed))

		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.upstream = true
		w.give(w.nodes[2], &command{state: events.HalfOpen})
		w.until("all closed", 3*time.Second, w.all(events.Closed))
	})
}

// An operator lets one instance probe early; the one that found the failure must not wait.
func TestFinderFollowsAnEarlyProbe(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		w.upstream, w.nodes[0].idle, w.nodes[2].idle = false, true, true
		w.until("all open", 20*time.Second, w.all(events.Open))
		finder, other := w.nodes[1], w.nodes[0]
		if s := finder.breaker.Status(); !openedByItself(&s) {
			t.Fatalf("another one found it: %+v", s)
		}
		w.upstream = true
		other.breaker.Force(events.HalfOpen, 0, "")
		w.until("the finder is half-open too", time.Second, func() bool { return finder.breaker.State() == events.HalfOpen })
		w.until("all closed", 10*time.Second, w.all(events.Closed))
	})
}
