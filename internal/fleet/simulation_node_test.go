package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// node is one instance.
type node struct {
	*protocol
	sim         *simulation
	alive       bool
	cutOff      bool // from the coordinator
	brokenRoute bool // to the upstream
	idle        bool // has no client traffic
	unshared    bool // sharing is off
	requestID   int  // of the last request; odd while it is in flight
	timerID     int  // of the last timer started
	pausedUntil time.Time
	lastEpoch   uint64
}

func (sim *simulation) addNode() {
	sim.created++
	name := fmt.Sprint("i", sim.created)
	n := &node{sim: sim, alive: true}
	b := breaker.New(simulatedService, sim.policy, n.breakerChanged)
	n.protocol = newProtocol(simulatedService, name, b)
	n.random = sim.random.Float64
	n.sharing = func() Sharing { return Sharing{Enabled: !n.unshared, Quorum: sim.quorum} }
	n.protocol.wakeUp = func() { sim.after(0, n.step) }
	b.SetProbePermission(n.mayProbe)
	sim.nodes = append(sim.nodes, n)
	sim.after(0, n.step)
	sim.after(sim.randomUpTo(time.Second), n.heartbeat)
	sim.after(sim.randomUpTo(time.Second), n.traffic)
}

// breakerChanged is called by the breaker, also on the goroutine of its timer.
func (n *node) breakerChanged(e events.Event) {
	if c, ok := e.(events.StateChanged); ok {
		n.sim.logf("%s: %v > %v, %s", n.instance, c.From, c.To, c.Cause)
		n.sim.recordChange(n, c)
	}
	n.sim.after(0, n.step)
}

// step does one iteration of a worker's loop.
func (n *node) step() {
	if !n.alive || n.requestID%2 == 1 || time.Now().Before(n.pausedUntil) {
		return
	}
	r, wake := n.next(time.Now())
	n.timerID++
	number := n.timerID
	if r.kind == noRequest {
		if !wake.IsZero() {
			n.sim.after(max(time.Until(wake), 0), func() {
				if n.timerID == number {
					n.step()
				}
			})
		}
		return
	}
	n.sendRequest(r)
}

// sendRequest sends a request and handles the response, or an error after a timeout.
func (n *node) sendRequest(r request) {
	n.requestID++
	id, sent := n.requestID, time.Now()
	finish := func(a response) {
		if n.requestID != id || !n.alive {
			return
		}
		n.requestID++
		if a.err != nil {
			n.sim.logf("%s: request %d got no response", n.instance, r.kind)
		}
		n.handleResponse(&r, a, sent, time.Now())
		if a.err != nil {
			n.pausedUntil = time.Now().Add(100*time.Millisecond + n.sim.randomUpTo(500*time.Millisecond))
		}
		n.sim.after(max(time.Until(n.pausedUntil), 0)+time.Microsecond, n.step)
	}
	n.sim.send(n, func() {
		a := response{err: errors.New("refused")}
		if !n.sim.refused[r.kind] {
			a = r.send(context.Background(), n.sim.coordinator)
		}
		n.sim.send(n, func() { finish(a) })
	})
	n.sim.after(time.Second, func() { finish(response{err: errors.New("no response in time")}) })
}

// heartbeat simulates the subscription to decisions: if it is silent, the connection to Redis is
// lost; when it is back, the node merges, because it may have missed decisions.
func (n *node) heartbeat() {
	if !n.alive {
		return
	}
	sim := n.sim
	quiet, heard := n.lastContact.since(time.Now())
	silent := !heard || quiet > 3*time.Second
	sim.send(n, func() {
		sim.send(n, func() {
			n.lastContact.set(time.Now())
			if silent {
				n.syncAt = time.Time{}
				sim.after(0, n.step)
			}
		})
	})
	sim.after(time.Second, n.heartbeat)
}

// traffic simulates the clients' calls.
func (n *node) traffic() {
	if !n.alive {
		return
	}
	sim := n.sim
	if n.idle {
		sim.after(time.Second, n.traffic)
		return
	}
	n.call()
	sim.after(50*time.Millisecond+sim.randomUpTo(sim.pace), n.traffic)
}

// call simulates one client call.
func (n *node) call() {
	sim := n.sim
	if call, err := n.breaker.Allow(); err == nil {
		if call.State == events.HalfOpen {
			sim.checkProbe(n)
		}
		latency := 1*time.Millisecond + sim.randomUpTo(50*time.Millisecond)
		if sim.withProbability(0.01) {
			latency = sim.randomUpTo(8 * time.Second)
		}
		sim.after(latency, func() {
			switch {
			case !n.alive:
			case sim.withProbability(0.02):
				call.Cancel()
			case sim.policy.RetryAfter > 0 && sim.faultsEnabled && sim.withProbability(0.03):
				call.RetryAfter(time.Now().Add(sim.randomUpTo(12 * time.Second)))
			case sim.upstream && !n.brokenRoute:
				call.Success(latency)
			default:
				call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, latency)
			}
		})
	}
}
