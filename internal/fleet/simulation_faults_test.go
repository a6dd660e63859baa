package fleet

import (
	"time"

	"cbproxy/internal/events"
)

// injectFault injects a random fault, and schedules the next one.
func (sim *simulation) injectFault() {
	if !sim.faultsEnabled {
		return
	}
	n := sim.nodes[sim.random.IntN(len(sim.nodes))]
	switch sim.random.IntN(14) {
	case 0, 1:
		sim.upstream = !sim.upstream
		sim.logf("upstream works: %v", sim.upstream)
	case 2:
		n.cutOff = !n.cutOff
		sim.logf("%s cut off: %v", n.instance, n.cutOff)
	case 3:
		n.brokenRoute = !n.brokenRoute
		sim.logf("%s has a broken route: %v", n.instance, n.brokenRoute)
	case 4:
		sim.logf("%s stops", n.instance)
		sim.kill(n)
		sim.addNode()
	case 5:
		sim.network.drop, sim.network.duplicate = sim.randomUpTo(time.Second).Seconds()*0.3, sim.randomUpTo(time.Second).Seconds()*0.3
		sim.logf("network drops %.2f, duplicates %.2f", sim.network.drop, sim.network.duplicate)
	case 6:
		sim.network.delay = sim.randomUpTo(sim.randomUpTo(1500 * time.Millisecond))
		sim.logf("network delays up to %v", sim.network.delay)
	case 7:
		sim.network.stopped = !sim.network.stopped
		sim.logf("coordinator stopped: %v", sim.network.stopped)
	case 8:
		if sim.withProbability(0.3) {
			sim.loseData()
		}
	case 9:
		sim.addNode()
		sim.logf("%s joins", sim.nodes[len(sim.nodes)-1].instance)
	case 10:
		if sim.withProbability(0.3) {
			n.breaker.Force(events.States[sim.random.IntN(3)], time.Duration(1+sim.random.IntN(5))*time.Second, "")
		}
	case 11:
		kind := merge + requestKind(sim.random.IntN(int(release)))
		sim.refused[kind] = !sim.refused[kind]
		sim.logf("coordinator refuses requests of kind %d: %v", kind, sim.refused[kind])
	case 12:
		n.unshared = !n.unshared
		sim.after(0, n.step)
		sim.logf("%s does not share: %v", n.instance, n.unshared)
	case 13:
		if sim.withProbability(0.3) && n.command == nil {
			sim.execute(n, &command{
				release: sim.withProbability(0.3), state: events.States[sim.random.IntN(3)], duration: time.Duration(1+sim.random.IntN(5)) * time.Second,
			})
		}
	}
	if len(sim.nodes) > 8 {
		sim.kill(sim.nodes[0])
	}
	sim.after(sim.randomUpTo(4*time.Second), sim.injectFault)
}

func (sim *simulation) kill(n *node) {
	n.alive = false
	n.breaker.Close()
	for i, other := range sim.nodes {
		if other == n {
			sim.nodes = append(sim.nodes[:i:i], sim.nodes[i+1:]...)
		}
	}
}

func (sim *simulation) loseData() {
	sim.truth.lost = time.Now()
	if len(sim.truth.decisions) == 0 || sim.withProbability(0.3) {
		sim.logf("coordinator loses all data")
		sim.coordinator.restore(simulatedService, nil)
		return
	}
	before := sim.truth.decisions[sim.random.IntN(len(sim.truth.decisions))]
	sim.logf("coordinator is back at epoch %d", before.Epoch)
	sim.coordinator.restore(simulatedService, &before)
}

// repairAll ends all faults.
func (sim *simulation) repairAll() {
	sim.logf("all faults end")
	sim.faultsEnabled = false
	sim.upstream, sim.network = true, network{delay: 5 * time.Millisecond}
	clear(sim.refused[:])
	for _, n := range sim.nodes {
		n.cutOff, n.brokenRoute, n.unshared = false, false, false
		sim.after(0, n.step) // as after a change of the configuration
	}
}
