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
	seeds     = flag.Int("seeds", 300, "simulations of the fleet's protocol")
	firstSeed = flag.Uint64("seed", 1, "seed of the first simulation")
)

const simulated = "svc"

// world is one simulation: instances, a board, an upstream, and a network between them that
// does whatever the seed says. All happens on one goroutine, at times of the fake clock.
type world struct {
	t      *testing.T
	random *rand.Rand
	begin  time.Time
	board  *memoryBoard
	policy breaker.Policy
	quorum int
	nodes  []*node
	born   int

	upstream bool                    // answers
	refused  [len(requestKinds)]bool // what the board answers with an error
	pace     time.Duration           // between calls at one instance, at the most
	network  network
	trouble  bool // still comes

	mu       sync.Mutex // guards what follows: breakers' timers have goroutines
	queue    queue
	sequence int
	log      []string
	truth    truth
}

// network is what may happen to a message.
type network struct {
	delay       time.Duration // at the most
	drop, again float64       // chances
	stopped     bool          // the board says nothing
}

// node is one instance.
type node struct {
	*protocol
	w           *world
	alive       bool
	cutOff      bool // from the board
	brokenRoute bool // to the upstream
	idle        bool // has no clients
	unshared    bool // sharing is off
	asked       int  // number of the last request; odd while it is under way
	wakes       int  // number of the last wake-up set
	rest        time.Time
	lastEpoch   uint64
}

// timed is something that happens at a time.
type timed struct {
	at       time.Time
	sequence int
	do       func()
}

type queue []timed

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].sequence < q[j].sequence
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(timed)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 4)), begin: time.Now(), board: newMemoryBoard(), upstream: true, trouble: true,
		policy: breaker.Policy{
			FailMax: 3, RecoveryTimeout: 4 * time.Second, HalfOpenRequests: 1, Window: 10 * time.Second,
			RecoveryBackoff: breaker.Backoff{Multiplier: 1.5, Max: 9 * time.Second},
		},
	}
	w.quorum = 1 + w.random.IntN(3)
	w.pace = 200*time.Millisecond + w.upTo(w.upTo(4*time.Second))
	w.policy.HalfOpenRequests = 1 + w.random.IntN(2)
	w.network = network{delay: w.upTo(50 * time.Millisecond)}
	w.board.ahead = time.Duration(w.random.IntN(7200)-3600) * time.Second
	w.board.decided = w.checkDecision
	for range 3 + w.random.IntN(4) {
		w.addNode()
	}
	return w
}

func (w *world) chance(p float64) bool { return w.random.Float64() < p }

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.random.Float64() * float64(d))
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%9.4f ", time.Since(w.begin).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("after %v: %s\n%s", time.Since(w.begin), fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-60):], "\n"))
}

// after makes something happen later. Times are odd, so that nothing happens at the very
// nanosecond of a breaker's timer.
func (w *world) after(d time.Duration, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sequence++
	heap.Push(&w.queue, timed{time.Now().Add(d.Round(time.Microsecond) + time.Duration(1+w.sequence%7)), w.sequence, do})
}

// send takes a message from or to a node's side of the network.
func (w *world) send(n *node, arrive func()) {
	copies := 1
	if w.chance(w.network.again) {
		copies = 2
	}
	for range copies {
		if w.chance(w.network.drop) {
			continue
		}
		w.after(w.upTo(w.network.delay), func() {
			if n.alive && !n.cutOff && !w.network.stopped {
				arrive()
			}
		})
	}
}

func (w *world) addNode() {
	w.born++
	name := fmt.Sprint("i", w.born)
	n := &node{w: w, alive: true}
	b := breaker.New(simulated, w.policy, n.changed)
	n.protocol = newProtocol(simulated, name, b)
	n.random = w.random.Float64
	n.sharing = func() Sharing { return Sharing{Enabled: !n.unshared, Quorum: w.quorum} }
	n.protocol.wakeUp = func() { w.after(0, n.step) }
	b.SetProbePermission(n.mayProbe)
	w.nodes = append(w.nodes, n)
	w.after(0, n.step)
	w.after(w.upTo(time.Second), n.beat)
	w.after(w.upTo(time.Second), n.traffic)
}

// changed is called by the breaker, on its timer's goroutine as well.
func (n *node) changed(e events.Event) {
	if c, ok := e.(events.StateChanged); ok {
		n.w.note("%s: %v > %v, %s", n.instance, c.From, c.To, c.Cause)
		n.w.truthChange(n, c)
	}
	n.w.after(0, n.step)
}

// step is what a member's goroutine does in one round.
func (n *node) step() {
	if !n.alive || n.asked%2 == 1 || time.Now().Before(n.rest) {
		return
	}
	r, wake := n.next(time.Now())
	n.wakes++
	number := n.wakes
	if r.kind == noRequest {
		if !wake.IsZero() {
			n.w.after(max(time.Until(wake), 0), func() {
				if n.wakes == number {
					n.step()
				}
			})
		}
		return
	}
	n.ask(r)
}

// ask sends a request and waits for the answer, but not for ever.
func (n *node) ask(r request) {
	n.asked++
	asked, sent := n.asked, time.Now()
	finish := func(a response) {
		if n.asked != asked || !n.alive {
			return
		}
		n.asked++
		if a.err != nil {
			n.w.note("%s: request %d got no answer", n.instance, r.kind)
		}
		n.handleResponse(&r, a, sent, time.Now())
		if a.err != nil {
			n.rest = time.Now().Add(100*time.Millisecond + n.w.upTo(500*time.Millisecond))
		}
		n.w.after(max(time.Until(n.rest), 0)+time.Microsecond, n.step)
	}
	n.w.send(n, func() {
		a := response{err: errors.New("refused")}
		if !n.w.refused[r.kind] {
			a = r.send(context.Background(), n.w.board)
		}
		n.w.send(n, func() { finish(a) })
	})
	n.w.after(time.Second, func() { finish(response{err: errors.New("no answer in time")}) })
}

// publish tells all nodes of a decision.
func (w *world) publish(s store.State) {
	for _, n := range w.nodes {
		w.send(n, func() {
			n.handlePublished(s)
			w.after(0, n.step)
		})
	}
}

// beat is the connection that decisions come over: its silence tells that Redis is lost, and its
// return that decisions may have been missed.
func (n *node) beat() {
	if !n.alive {
		return
	}
	w := n.w
	quiet, heard := n.lastContact.since(time.Now())
	silent := !heard || quiet > 3*time.Second
	w.send(n, func() {
		w.send(n, func() {
			n.lastContact.set(time.Now())
			if silent {
				n.syncAt = time.Time{}
				w.after(0, n.step)
			}
		})
	})
	w.after(time.Second, n.beat)
}

// traffic is the clients' calls.
func (n *node) traffic() {
	if !n.alive {
		return
	}
	w := n.w
	if n.idle {
		w.after(time.Second, n.traffic)
		return
	}
	n.call()
	w.after(50*time.Millisecond+w.upTo(w.pace), n.traffic)
}

// call is one client's call.
func (n *node) call() {
	w := n.w
	if call, err := n.breaker.Allow(); err == nil {
		if call.State == events.HalfOpen {
			w.checkProbe(n)
		}
		latency := 1*time.Millisecond + w.upTo(50*time.Millisecond)
		if w.chance(0.01) {
			latency = w.upTo(8 * time.Second)
		}
		w.after(latency, func() {
			switch {
			case !n.alive:
			case w.chance(0.02):
				call.Cancel()
			case w.upstream && !n.brokenRoute:
				call.Success(latency)
			default:
				call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, latency)
			}
		})
	}
}

// run lets things happen for d, and checks what must hold after each.
func (w *world) run(d time.Duration) {
	for end := time.Now().Add(d); ; {
		w.mu.Lock()
		if len(w.queue) == 0 || !w.queue[0].at.Before(end) {
			w.mu.Unlock()
			time.Sleep(time.Until(end))
			synctest.Wait()
			return
		}
		next := heap.Pop(&w.queue).(timed)
		w.mu.Unlock()
		time.Sleep(time.Until(next.at))
		synctest.Wait()
		next.do()
		synctest.Wait()
		w.checkNodes()
	}
}

func TestFleetKeepsItsPromisesWhateverHappens(t *testing.T) {
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
		w := newWorld(t, seed)
		defer func() {
			for _, n := range w.nodes {
				w.kill(n)
			}
			if t.Failed() {
				t.Logf("again with: go test -run FleetKeeps ./internal/fleet -seeds 1 -seed %d", seed)
			}
		}()
		w.after(w.upTo(4*time.Second), w.befall)
		w.run(time.Minute)
		w.heal()
		w.run(80 * time.Second)
		w.checkRecovered()
	})
}
