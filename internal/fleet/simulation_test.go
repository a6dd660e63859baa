package fleet

import (
	"container/heap"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

var (
	seeds     = flag.Int("seeds", 300, "number of simulations of the fleet protocol")
	firstSeed = flag.Uint64("seed", 1, "seed of the first simulation")
)

const simulatedService = "svc"

// simulation has instances, a coordinator, an upstream, and a network whose faults the seed
// determines. All events run on one goroutine, at times of the fake clock.
type simulation struct {
	t           *testing.T
	random      *rand.Rand
	begin       time.Time
	coordinator *memoryCoordinator
	policy      breaker.Policy
	quorum      int
	nodes       []*node
	created     int

	upstream      bool                    // responds successfully
	refused       [len(requestKinds)]bool // kinds of requests that the coordinator fails
	pace          time.Duration           // maximum time between the calls of an instance
	network       network
	faultsEnabled bool

	mu       sync.Mutex // guards the fields below, which the goroutines of breakers' timers use too
	queue    queue
	sequence int
	log      []string
	truth    groundTruth
}

// network is the faults of the network.
type network struct {
	delay           time.Duration // maximum
	drop, duplicate float64       // probabilities
	stopped         bool          // the coordinator does not respond
}

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

// event is a function that runs at a time.
type event struct {
	at       time.Time
	sequence int
	do       func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].sequence < q[j].sequence
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	sim := &simulation{
		t: t, random: rand.New(rand.NewPCG(seed, 4)), begin: time.Now(), coordinator: newMemoryCoordinator(), upstream: true, faultsEnabled: true,
		policy: breaker.Policy{
			FailMax: 3, RecoveryTimeout: 4 * time.Second, HalfOpenRequests: 1, Window: 10 * time.Second,
			RecoveryBackoff: breaker.Backoff{Multiplier: 1.5, Max: 9 * time.Second},
		},
	}
	sim.quorum = 1 + sim.random.IntN(3)
	sim.pace = 200*time.Millisecond + sim.randomUpTo(sim.randomUpTo(4*time.Second))
	sim.policy.HalfOpenRequests = 1 + sim.random.IntN(2)
	sim.network = network{delay: sim.randomUpTo(50 * time.Millisecond)}
	sim.coordinator.clockOffset = time.Duration(sim.random.IntN(7200)-3600) * time.Second
	sim.coordinator.onDecision = sim.checkDecision
	for range 3 + sim.random.IntN(4) {
		sim.addNode()
	}
	return sim
}

func (sim *simulation) withProbability(p float64) bool { return sim.random.Float64() < p }

func (sim *simulation) randomUpTo(d time.Duration) time.Duration {
	return time.Duration(sim.random.Float64() * float64(d))
}

func (sim *simulation) logf(format string, args ...any) {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	sim.log = append(sim.log, fmt.Sprintf("%9.4f ", time.Since(sim.begin).Seconds())+fmt.Sprintf(format, args...))
}

func (sim *simulation) fatalf(format string, args ...any) {
	sim.t.Helper()
	sim.t.Fatalf("after %v: %s\n%s", time.Since(sim.begin), fmt.Sprintf(format, args...), strings.Join(sim.log[max(0, len(sim.log)-60):], "\n"))
}

// after runs do after d. It adds a few nanoseconds, so that no event coincides with a breaker's
// timer.
func (sim *simulation) after(d time.Duration, do func()) {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	sim.sequence++
	heap.Push(&sim.queue, event{time.Now().Add(d.Round(time.Microsecond) + time.Duration(1+sim.sequence%7)), sim.sequence, do})
}

// send transmits a message from or to a node, and runs arrive for each copy that arrives.
func (sim *simulation) send(n *node, arrive func()) {
	copies := 1
	if sim.withProbability(sim.network.duplicate) {
		copies = 2
	}
	for range copies {
		if sim.withProbability(sim.network.drop) {
			continue
		}
		sim.after(sim.randomUpTo(sim.network.delay), func() {
			if n.alive && !n.cutOff && !sim.network.stopped {
				arrive()
			}
		})
	}
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

// publish sends a decision to all nodes.
func (sim *simulation) publish(s store.State) {
	for _, n := range sim.nodes {
		sim.send(n, func() {
			n.handlePublished(s)
			sim.after(0, n.step)
		})
	}
}

// heartheartbeat simulates the subscription to decisions: if it is silent, the connection to Redis is
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
			case sim.upstream && !n.brokenRoute:
				call.Success(latency)
			default:
				call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, latency)
			}
		})
	}
}

// run runs the events of the next d, and checks the nodes after each event.
func (sim *simulation) run(d time.Duration) {
	for end := time.Now().Add(d); ; {
		sim.mu.Lock()
		if len(sim.queue) == 0 || !sim.queue[0].at.Before(end) {
			sim.mu.Unlock()
			time.Sleep(time.Until(end))
			synctest.Wait()
			return
		}
		next := heap.Pop(&sim.queue).(event)
		sim.mu.Unlock()
		time.Sleep(time.Until(next.at))
		synctest.Wait()
		next.do()
		synctest.Wait()
		sim.checkNodes()
	}
}

func TestSimulatedFleetKeepsGuarantees(t *testing.T) {
	const batch = 50
	for from := 0; from < *seeds; from += batch {
		t.Run(fmt.Sprint(*firstSeed+uint64(from)), func(t *testing.T) {
			t.Parallel()
			for i := range min(batch, *seeds-from) {
				simulate(t, *firstSeed+uint64(from+i))
			}
		})
	}
}

func simulate(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, seed)
		defer func() {
			for _, n := range sim.nodes {
				sim.kill(n)
			}
			if t.Failed() {
				t.Logf("reproduce with: go test -run SimulatedFleet ./internal/fleet -seeds 1 -seed %d", seed)
			}
		}()
		sim.after(sim.randomUpTo(4*time.Second), sim.injectFault)
		sim.run(time.Minute)
		sim.repairAll()
		sim.run(80 * time.Second)
		sim.checkRecovered()
	})
}
