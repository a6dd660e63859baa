package fleet

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/store"
	"cbproxy/internal/testenv"
)

var (
	seeds     = flag.Int("seeds", defaultSeeds(), "number of simulations of the fleet protocol")
	firstSeed = flag.Uint64("seed", 1, "seed of the first simulation")
)

// defaultSeeds returns a smaller number with the race detector. The order of events, which a seed determines, is checked as well
// without it. Nearly all of a simulation runs on one goroutine, so a few simulations show the data races.
func defaultSeeds() int {
	if testenv.RaceDetector {
		return 40
	}
	return 300
}

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

// event is a function that runs at a set time.
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
			Limits:  algorithm.Limits{Window: 10 * time.Second},
			FailMax: 3, RecoveryTimeout: 4 * time.Second, HalfOpenRequests: 1,
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

// publish sends a decision to all nodes.
func (sim *simulation) publish(s store.State) {
	for _, n := range sim.nodes {
		sim.send(n, func() {
			n.handlePublished(s)
			sim.after(0, n.step)
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
	const batch = 20
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
		sim.policy.RetryAfter, sim.policy.RetryAfterMax = sim.random.IntN(3), 9*time.Second
		if seed%2 == 0 { // two failures in a row are enough, and FailMax is 3
			sim.policy.Adaptive = adaptive.Options{Mode: adaptive.Enforce, FalseAlarm: 0.05, MinRatio: 0.2, Floor: 0.01, Cap: 0.1, WarmupCalls: 1}
		}
		for _, n := range sim.nodes {
			n.breaker.SetPolicy(sim.policy)
		}
		sim.after(sim.randomUpTo(4*time.Second), sim.injectFault)
		sim.run(time.Minute)
		sim.repairAll()
		sim.run(80 * time.Second)
		sim.checkRecovered()
	})
}
