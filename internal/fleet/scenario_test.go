package fleet

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

// scenario runs a story of n instances with a calm network.
func scenario(t *testing.T, n, quorum int, story func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for len(w.nodes) > 0 {
			w.kill(w.nodes[0])
		}
		w.network, w.quorum, w.pace = network{delay: 2 * time.Millisecond}, quorum, 500*time.Millisecond
		for range n {
			w.addNode()
		}
		defer func() {
			for _, n := range slices.Clone(w.nodes) {
				w.kill(n)
			}
		}()
		w.run(time.Second)
		story(t, w)
		if t.Failed() {
			for _, line := range w.log {
				t.Log(line)
			}
		}
	})
}

// until runs the world until done says so, and returns how long that took.
func (w *world) until(what string, patience time.Duration, done func() bool) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for !done() {
		if time.Since(begin) > patience {
			w.fail("not within %v: %s", patience, what)
		}
		w.run(time.Millisecond)
	}
	return time.Since(begin)
}

func (w *world) all(state events.State) func() bool {
	return func() bool {
		return !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.breaker.State() != state })
	}
}

func (w *world) some(state events.State) func() bool {
	return func() bool {
		return slices.ContainsFunc(w.nodes, func(n *node) bool { return n.breaker.State() == state })
	}
}

func (w *world) prober() *node {
	for _, n := range w.nodes {
		if time.Now().Before(n.permit.Load().until) {
			return n
		}
	}
	return nil
}

func TestOneThatOpensOpensAllUntilTheSameEnd(t *testing.T) {
	scenario(t, 20, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("one opens", 10*time.Second, w.some(events.Open))
		if took := w.until("all open", time.Second, w.all(events.Open)); took > 20*time.Millisecond {
			t.Errorf("the last one opened %v after the first", took)
		}
		end := w.nodes[0].breaker.RetryAt()
		for _, n := range w.nodes {
			if off := n.breaker.RetryAt().Sub(end).Abs(); off > 8*time.Millisecond {
				t.Errorf("%s ends %v apart", n.instance, off)
			}
		}
	})
}

func TestFailedProbeOpensAllAgainForLonger(t *testing.T) {
	scenario(t, 5, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		first := w.nodes[0].known.Epoch
		w.until("half-open", 10*time.Second, w.some(events.HalfOpen))
		w.until("all open again", 3*time.Second, func() bool {
			return w.all(events.Open)() && w.nodes[0].known.Cause == events.CauseProbeFailed
		})
		for _, n := range w.nodes {
			s := n.breaker.Status()
			if n.known.Epoch <= first || s.ConsecutiveOpenings != 2 || s.RetryAt.Sub(s.Since).Round(time.Second/10) != 6*time.Second {
				t.Errorf("%s: epoch %d, opening %d of %v", n.instance, n.known.Epoch, s.ConsecutiveOpenings, s.RetryAt.Sub(s.Since))
			}
		}
		w.upstream = true
		w.until("all closed", 15*time.Second, w.all(events.Closed))
	})
}

func TestDeadProberIsReplaced(t *testing.T) {
	scenario(t, 4, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.until("there is a prober", 10*time.Second, func() bool { return w.prober() != nil })
		w.kill(w.prober())
		w.upstream = true
		left := time.Until(w.nodes[0].breaker.RetryAt())
		if took := w.until("all closed", 15*time.Second, w.all(events.Closed)); took > left+2*leaseTime {
			t.Errorf("closed %v after the opening's end", took-left)
		}
	})
}

// The holder of the lease has no traffic; others have.
func TestProbesGoWhereTheTrafficIs(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.until("there is a prober", 10*time.Second, func() bool { return w.prober() != nil })
		w.prober().idle, w.upstream = true, true
		left := time.Until(w.nodes[0].breaker.RetryAt())
		if took := w.until("all closed", 20*time.Second, w.all(events.Closed)); took > left+leaseTime {
			t.Errorf("closed %v after the opening's end", took-left)
		}
	})
}

func TestOneBrokenNetworkClosesTheServiceForNobodyElse(t *testing.T) {
	scenario(t, 4, 2, func(t *testing.T, w *world) {
		broken := w.nodes[0]
		broken.brokenRoute = true
		w.until("it opens for itself", 10*time.Second, func() bool { return broken.breaker.State() == events.Open })
		for range 300 {
			w.run(100 * time.Millisecond)
			if slices.ContainsFunc(w.nodes[1:], func(n *node) bool { return n.breaker.State() != events.Closed }) {
				w.fail("another one opened")
			}
			if broken.breaker.State() == events.Closed {
				w.fail("its own verdict does not hold")
			}
		}
		w.nodes[1].brokenRoute = true
		w.until("two are a quorum", 20*time.Second, w.all(events.Open))
	})
}

func TestWhoJoinsAdoptsWhatIsCurrent(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.addNode()
		joined := w.nodes[2]
		joined.idle = true
		w.until("it opens", time.Second, func() bool { return joined.breaker.State() == events.Open })
		if off := joined.breaker.RetryAt().Sub(w.nodes[0].breaker.RetryAt()).Abs(); off > 8*time.Millisecond {
			t.Errorf("it ends %v apart", off)
		}
		if s := joined.breaker.Status(); s.Cause != events.CauseFleet || s.ConsecutiveOpenings != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestOldSnapshotReopensNothing(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		old := w.board.states[simulated].State
		w.upstream = true
		w.until("all closed", 20*time.Second, w.all(events.Closed))
		newest := w.board.states[simulated].State
		w.board.lose(simulated, &old)
		w.truth.lost = time.Now()
		for range 50 {
			w.run(time.Second)
			if !w.all(events.Closed)() {
				w.fail("it opened something again")
			}
		}
		if got := w.board.states[simulated].State; got != newest {
			t.Errorf("the board has %+v, want %+v", got, newest)
		}
	})
}

func TestWithoutRedisEverybodyIsOnItsOwn(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.network.stopped, w.upstream = true, true
		left := time.Until(w.nodes[0].breaker.RetryAt())
		if took := w.until("all closed", 20*time.Second, w.all(events.Closed)); took > left+contactTimeout {
			t.Errorf("closed %v after the opening's end", took-left)
		}
		// The board still says open; what was found since counts.
		w.network.stopped = false
		w.until("the board knows", 10*time.Second, func() bool {
			return w.board.states[simulated].State.State == events.Closed
		})
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.network.stopped = true
		w.run(30 * time.Second)
		if !w.all(events.Open)() && !w.some(events.HalfOpen)() {
			t.Error("it recovered from nothing")
		}
	})
}

func TestSharingOffIsWithoutRedis(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		for _, n := range w.nodes {
			n.unshared = true
		}
		w.nodes[0].brokenRoute = true
		w.until("it opens", 10*time.Second, func() bool { return w.nodes[0].breaker.State() == events.Open })
		w.run(3 * time.Second)
		if !(w.nodes[1].breaker.State() == events.Closed && w.nodes[2].breaker.State() == events.Closed) {
			t.Error("another one followed")
		}
		w.nodes[0].brokenRoute = false
		w.until("it recovers", 10*time.Second, w.all(events.Closed))
	})
}

// Two instances with few calls, each of which comes while the other one has the lease.
func TestFewCallsAreEnough(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		w.upstream, w.nodes[0].idle, w.nodes[1].idle = true, true, true
		turn := 0
		var call func()
		call = func() {
			w.nodes[turn%2].call()
			turn++
			w.after(2500*time.Millisecond, call)
		}
		w.after(0, call)
		w.until("all closed", 40*time.Second, w.all(events.Closed))
	})
}

// What can't be asked leaves nobody waiting, whatever else works.
func TestRefusedRequestsLeaveNobodyWaiting(t *testing.T) {
	for _, kind := range []requestKind{merge, decide, acquire} {
		scenario(t, 2, 1, func(t *testing.T, w *world) {
			w.upstream = false
			w.until("all open", 10*time.Second, w.all(events.Open))
			w.refused[kind], w.upstream = true, true
			left := time.Until(w.nodes[0].breaker.RetryAt())
			if took := w.until("all closed", 20*time.Second, w.all(events.Closed)); took > left+2*leaseTime+failureTimeout {
				t.Errorf("kind %d refused: closed %v after the opening's end", kind, took-left)
			}
		})
	}
}

// Decisions from before an instance shared again, and found something itself, move nothing.
func TestSharingAgainMovesNothing(t *testing.T) {
	scenario(t, 2, 1, func(t *testing.T, w *world) {
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
		for _, n := range w.nodes {
			n.unshared = true
			w.after(0, n.step)
		}
		w.upstream = true
		w.until("all closed", 10*time.Second, w.all(events.Closed))
		for _, n := range w.nodes {
			n.unshared = false
			w.after(0, n.step)
		}
		for range 1000 {
			w.run(10 * time.Millisecond)
			if !w.all(events.Closed)() {
				w.fail("one left the closed state")
			}
		}
		if got := w.board.states[simulated].State.State; got != events.Closed {
			t.Errorf("the board says %v", got)
		}
	})
}

// What Redis loses is told again: what is found after the loss at once, what was found before
// with the next comparison.
func TestFindingsThatRedisLosesAreToldAgain(t *testing.T) {
	scenario(t, 3, 1, func(t *testing.T, w *world) {
		w.truth.lost = time.Now()
		w.board.lose(simulated, nil)
		w.upstream = false
		w.until("all open", 10*time.Second, w.all(events.Open))
	})
	scenario(t, 3, 2, func(t *testing.T, w *world) {
		w.policy.Window = time.Hour
		for _, n := range w.nodes {
			n.breaker.SetPolicy(w.policy)
		}
		w.nodes[0].brokenRoute = true
		w.until("one opens", 10*time.Second, w.some(events.Open))
		w.run(time.Second)
		w.truth.lost = time.Now()
		w.board.lose(simulated, nil)
		w.nodes[1].brokenRoute = true
		w.until("all open", 2*syncInterval, w.all(events.Open))
	})
}
