package fleet

import (
	"time"

	"cbproxy/internal/events"
)

// befall is what may happen to a fleet.
func (w *world) befall() {
	if !w.trouble {
		return
	}
	n := w.nodes[w.random.IntN(len(w.nodes))]
	switch w.random.IntN(14) {
	case 0, 1:
		w.upstream = !w.upstream
		w.note("upstream answers: %v", w.upstream)
	case 2:
		n.cutOff = !n.cutOff
		w.note("%s cut off: %v", n.instance, n.cutOff)
	case 3:
		n.brokenRoute = !n.brokenRoute
		w.note("%s has a broken route: %v", n.instance, n.brokenRoute)
	case 4:
		w.note("%s dies", n.instance)
		w.kill(n)
		w.addNode()
	case 5:
		w.network.drop, w.network.again = w.upTo(time.Second).Seconds()*0.3, w.upTo(time.Second).Seconds()*0.3
		w.note("network drops %.2f, doubles %.2f", w.network.drop, w.network.again)
	case 6:
		w.network.delay = w.upTo(w.upTo(1500 * time.Millisecond))
		w.note("network delays up to %v", w.network.delay)
	case 7:
		w.network.stopped = !w.network.stopped
		w.note("board stopped: %v", w.network.stopped)
	case 8:
		if w.chance(0.3) {
			w.loseData()
		}
	case 9:
		w.addNode()
		w.note("%s joins", w.nodes[len(w.nodes)-1].instance)
	case 10:
		if w.chance(0.3) {
			n.breaker.Force(events.States[w.random.IntN(3)], time.Duration(1+w.random.IntN(5))*time.Second, "")
		}
	case 11:
		kind := merge + requestKind(w.random.IntN(int(release)))
		w.refused[kind] = !w.refused[kind]
		w.note("board refuses requests of kind %d: %v", kind, w.refused[kind])
	case 12:
		n.unshared = !n.unshared
		w.after(0, n.step)
		w.note("%s does not share: %v", n.instance, n.unshared)
	case 13:
		if w.chance(0.3) && n.command == nil {
			w.give(n, &command{
				release: w.chance(0.3), state: events.States[w.random.IntN(3)], duration: time.Duration(1+w.random.IntN(5)) * time.Second,
			})
		}
	}
	if len(w.nodes) > 8 {
		w.kill(w.nodes[0])
	}
	w.after(w.upTo(4*time.Second), w.befall)
}

func (w *world) kill(n *node) {
	n.alive = false
	n.breaker.Close()
	for i, other := range w.nodes {
		if other == n {
			w.nodes = append(w.nodes[:i:i], w.nodes[i+1:]...)
		}
	}
}

func (w *world) loseData() {
	w.truth.lost = time.Now()
	if len(w.truth.decisions) == 0 || w.chance(0.3) {
		w.note("board loses everything")
		w.board.lose(simulated, nil)
		return
	}
	before := w.truth.decisions[w.random.IntN(len(w.truth.decisions))]
	w.note("board is back at epoch %d", before.Epoch)
	w.board.lose(simulated, &before)
}

// heal ends all trouble.
func (w *world) heal() {
	w.note("all is well again")
	w.trouble = false
	w.upstream, w.network = true, network{delay: 5 * time.Millisecond}
	clear(w.refused[:])
	for _, n := range w.nodes {
		n.cutOff, n.brokenRoute, n.unshared = false, false, false
		w.after(0, n.step) // as an edit of the configuration is told
	}
}
