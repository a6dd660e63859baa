package fleet

import (
	"strings"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// groundTruth is what has happened, to be compared with the instances' states. simulation.mu guards it.
type groundTruth struct {
	decisions   []store.State                  // accepted by the coordinator
	findings    map[string]time.Time           // when each instance last detected the failure by its own calls
	ownOpenings map[string]events.HistoryEntry // each instance's current opening, if its own calls caused it
	lost        time.Time                      // when the coordinator last lost data
}

// messageTimeout is how long a sender waits for a response.
const messageTimeout = time.Second

func (sim *simulation) dataLostRecently() bool {
	return !sim.truth.lost.IsZero() && time.Since(sim.truth.lost) < 2*leaseTime
}

// recordChange records the openings that a breaker's own calls caused, and checks that only a newer
// decision ends them.
func (sim *simulation) recordChange(n *node, c events.StateChanged) {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	if sim.truth.findings == nil {
		sim.truth.findings, sim.truth.ownOpenings = map[string]time.Time{}, map[string]events.HistoryEntry{}
	}
	if c.To == events.Open && c.Cause != events.CauseFleet && c.Cause != events.CauseForced {
		sim.truth.findings[n.instance] = c.Time
		sim.truth.ownOpenings[n.instance] = events.HistoryEntry{StateChanged: c}
		return
	}
	opening, was := sim.truth.ownOpenings[n.instance]
	delete(sim.truth.ownOpenings, n.instance)
	if was && c.To == events.Closed && c.Cause == events.CauseFleet && !n.known.Forced {
		decided := n.known.Timestamp.Add(-sim.coordinator.clockOffset)
		if opening.Time.Sub(decided) > messageTimeout {
			sim.t.Errorf("%s opened by its own calls at %v and was closed by a decision of %v", n.instance, opening.Time, decided)
		}
	}
}

// checkDecision checks an accepted decision, or a merged state if d is nil.
func (sim *simulation) checkDecision(before, after store.State, d *store.Proposal) {
	if after.Epoch <= before.Epoch {
		sim.fatalf("epoch %d after %d", after.Epoch, before.Epoch)
	}
	sim.publish(after)
	if d == nil {
		sim.logf("coordinator: restored to %v, epoch %d", after.State, after.Epoch)
		return
	}
	sim.truth.decisions = append(sim.truth.decisions, after)
	sim.logf("coordinator: %v by %s, cause %s, prober %q, epoch %d", after.State, after.Instance, after.Cause, after.Prober, after.Epoch)
	switch {
	case after.Cause == events.CauseForced || after.Cause == events.CauseReleased: // not restricted
	case d.Quorum > 0:
		sim.checkQuorum(before, d)
	case after.State == events.Open && after.Cause == events.CauseRetryAfter && before.State == events.Open && before.Cause == events.CauseRetryAfter && after.Prober == "":
		if !after.Until.After(before.Until) {
			sim.fatalf("%s prolonged an opening until %v to %v", after.Instance, before.Until, after.Until)
		}
	case after.Prober == "" && !strings.HasPrefix(before.Prober, after.Instance+"/"):
		sim.fatalf("%s decided the result of a probe, but the prober is %q", after.Instance, before.Prober)
	}
}

// checkQuorum checks that a quorum of instances has detected the failure.
func (sim *simulation) checkQuorum(before store.State, d *store.Proposal) {
	if before.State != events.Closed || d.Quorum != sim.quorum {
		sim.fatalf("an opening with quorum %d follows %v", d.Quorum, before.State)
	}
	detected := 0
	for _, at := range sim.truth.findings {
		if time.Since(at) < d.Window+messageTimeout {
			detected++
		}
	}
	if detected < sim.quorum {
		sim.fatalf("%s opened the fleet; %d instances had detected the failure, want %d", d.State.Instance, detected, sim.quorum)
	}
}

// checkProbe checks that an instance that admits a probe for the fleet has the lease.
func (sim *simulation) checkProbe(n *node) {
	if !n.permit.Load().required || n.disconnected(time.Now()) || sim.dataLostRecently() {
		return
	}
	if token := sim.coordinator.lease(simulatedService).token; token != n.lease.token {
		sim.fatalf("%s probes with the lease %q, the valid lease is %q", n.instance, n.lease.token, token)
	}
}

// checkNodes checks what must hold after every step.
func (sim *simulation) checkNodes() {
	probers := 0
	for _, n := range sim.nodes {
		if n.known.Epoch < n.lastEpoch {
			sim.fatalf("%s went back from epoch %d to %d", n.instance, n.lastEpoch, n.known.Epoch)
		}
		n.lastEpoch = n.known.Epoch
		if time.Now().Before(n.permit.Load().until) {
			probers++
		}
		sim.checkEnd(n)
	}
	if probers > 1 && !sim.dataLostRecently() {
		sim.fatalf("%d instances have a valid permit to probe", probers)
	}
}

// checkEnd checks that an opening ends at the same time at all instances, within the clocks' accuracy.
func (sim *simulation) checkEnd(n *node) {
	status := n.breaker.Status()
	if n.applied != n.known.Epoch || n.known.State != events.Open || status.State != events.Open || status.Cause != events.CauseFleet {
		return
	}
	end := n.known.Until.Add(-sim.coordinator.clockOffset)
	if off := status.RetryAt.Sub(end).Abs(); off > messageTimeout/2+n.clock.roundTrip/2+endTolerance {
		sim.fatalf("the opening of %s ends at %v, which is %v off", n.instance, status.RetryAt, off)
	}
}

// checkRecovered checks that all breakers are closed and all instances have the coordinator's state.
func (sim *simulation) checkRecovered() {
	kept := sim.coordinator.states[simulatedService]
	for _, n := range sim.nodes {
		status := n.breaker.Status()
		if status.State != events.Closed || n.known.Epoch != kept.Epoch || kept.State.State != events.Closed {
			sim.fatalf("%s is %v by %s and has epoch %d (%v), the coordinator %d (%v)", n.instance, status.State, status.Cause,
				n.known.Epoch, n.known.State, kept.Epoch, kept.State.State)
		}
	}
}
