package fleet

import (
	"strings"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// truth is what really happened, for comparing with what the instances believe.
type truth struct {
	decisions []store.State                  // accepted by the board
	findings  map[string]time.Time           // when each instance last found the upstream dead itself
	verdicts  map[string]events.HistoryEntry // its own opening, while that lasts
	lost      time.Time                      // when the board last lost data
}

// slack is how long a message may be on its way before its sender gives up.
const slack = time.Second

func (w *world) lostDataLately() bool {
	return !w.truth.lost.IsZero() && time.Since(w.truth.lost) < 2*leaseTime
}

// truthChange keeps what a breaker found, and checks that its own verdict holds until something
// newer is known.
func (w *world) truthChange(n *node, c events.StateChanged) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.truth.findings == nil {
		w.truth.findings, w.truth.verdicts = map[string]time.Time{}, map[string]events.HistoryEntry{}
	}
	if c.To == events.Open && c.Cause != events.CauseFleet && c.Cause != events.CauseForced {
		w.truth.findings[n.instance] = c.Time
		w.truth.verdicts[n.instance] = events.HistoryEntry{StateChanged: c}
		return
	}
	verdict, was := w.truth.verdicts[n.instance]
	delete(w.truth.verdicts, n.instance)
	if was && c.To == events.Closed && c.Cause == events.CauseFleet && !n.known.Forced {
		decided := n.known.Timestamp.Add(-w.board.ahead)
		if verdict.Time.Sub(decided) > slack {
			w.t.Errorf("%s opened by itself at %v and was closed by what was decided at %v", n.instance, verdict.Time, decided)
		}
	}
}

// checkDecision checks what the board accepted.
func (w *world) checkDecision(before, after store.State, d *store.Decision) {
	if after.Epoch <= before.Epoch {
		w.fail("epoch %d after %d", after.Epoch, before.Epoch)
	}
	w.publish(after)
	if d == nil {
		w.note("board: repaired to %v, epoch %d", after.State, after.Epoch)
		return
	}
	w.truth.decisions = append(w.truth.decisions, after)
	w.note("board: %v by %s, cause %s, prober %q, epoch %d", after.State, after.Instance, after.Cause, after.Prober, after.Epoch)
	switch {
	case after.Cause == events.CauseForced || after.Cause == events.CauseReleased: // an operator may
	case d.Quorum > 0:
		w.checkQuorum(before, d)
	case after.Prober == "" && !strings.HasPrefix(before.Prober, after.Instance+"/"):
		w.fail("%s decided on a probe, and the prober is %q", after.Instance, before.Prober)
	}
}

// checkQuorum checks that enough instances had really found the failure.
func (w *world) checkQuorum(before store.State, d *store.Decision) {
	if before.State != events.Closed || d.Quorum != w.quorum {
		w.fail("an opening with quorum %d follows %v", d.Quorum, before.State)
	}
	found := 0
	for _, at := range w.truth.findings {
		if time.Since(at) < d.Window+slack {
			found++
		}
	}
	if found < w.quorum {
		w.fail("%s opened the fleet; %d instances had found the failure, not %d", d.State.Instance, found, w.quorum)
	}
}

// checkProbe checks that who lets a call through as a probe, knowing of the fleet, has the lease.
func (w *world) checkProbe(n *node) {
	if !n.permit.Load().required || n.disconnected(time.Now()) || w.lostDataLately() {
		return
	}
	if token := w.board.lease(simulated).token; token != n.lease.token {
		w.fail("%s probes by the lease %q, the lease is %q", n.instance, n.lease.token, token)
	}
}

// checkNodes checks what must hold at any moment.
func (w *world) checkNodes() {
	probers := 0
	for _, n := range w.nodes {
		if n.known.Epoch < n.lastEpoch {
			w.fail("%s knew epoch %d and went back to %d", n.instance, n.lastEpoch, n.known.Epoch)
		}
		n.lastEpoch = n.known.Epoch
		if time.Now().Before(n.permit.Load().until) {
			probers++
		}
		w.checkEnd(n)
	}
	if probers > 1 && !w.lostDataLately() {
		w.fail("%d instances believe that they may probe", probers)
	}
}

// checkEnd checks that an opening ends for all at the same time, as far as clocks can be read.
func (w *world) checkEnd(n *node) {
	status := n.breaker.Status()
	if n.applied != n.known.Epoch || n.known.State != events.Open || status.State != events.Open || status.Cause != events.CauseFleet {
		return
	}
	end := n.known.Until.Add(-w.board.ahead)
	if off := status.RetryAt.Sub(end).Abs(); off > slack/2+n.clock.roundTrip/2+endTolerance {
		w.fail("%s ends the opening at %v, which is %v off", n.instance, status.RetryAt, off)
	}
}

// checkRecovered checks that all is closed, and all agree, once all has been well for long enough.
func (w *world) checkRecovered() {
	kept := w.board.states[simulated]
	for _, n := range w.nodes {
		status := n.breaker.Status()
		if status.State != events.Closed || n.known.Epoch != kept.Epoch || kept.State.State != events.Closed {
			w.fail("%s is %v by %s and knows of epoch %d (%v), the board of %d (%v)", n.instance, status.State, status.Cause,
				n.known.Epoch, n.known.State, kept.Epoch, kept.State.State)
		}
	}
}
