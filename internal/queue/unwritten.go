package queue

import (
	"time"

	"cbproxy/internal/queue/disk"
)

// unwrittenStates holds the delivery states that are newer than those in the store: one whose write waits for a trial, and those whose
// write has failed, as on a full disk. Deliveries continue meanwhile, because they are what frees a full disk. Only the worker's
// goroutine uses it.
type unwrittenStates struct {
	bySeq   map[uint64]deliveryState
	retryAt time.Time // nothing is written before, after a failure
}

func (u *unwrittenStates) set(e *entry) {
	if u.bySeq == nil {
		u.bySeq = map[uint64]deliveryState{}
	}
	u.bySeq[e.seq] = e.delivery
}

// wait returns how long to wait before the states may be written.
func (u *unwrittenStates) wait() time.Duration {
	if len(u.bySeq) == 0 {
		return maxWait
	}
	return time.Until(u.retryAt)
}

// entryOf returns the entry of a record of the store, with its newest delivery state.
func (w *worker) entryOf(r disk.Record) entry {
	e := entryOf(r)
	if newer, ok := w.unwritten.bySeq[e.seq]; ok {
		e.delivery = newer
	}
	return e
}

// writeStates writes the unwritten delivery states. After a failure, which it logs, it does nothing for storeRetryDelay.
func (w *worker) writeStates() {
	if w.unwritten.wait() > 0 {
		return
	}
	for seq, d := range w.unwritten.bySeq {
		if err := w.store.SetDeliveryState(w.service, seq, d.encode()); err != nil {
			w.unwritten.retryAt = time.Now().Add(storeRetryDelay)
			w.storeErrors.log(w.logger, "cannot store the attempts of a queued request, retrying", err)
			return
		}
		delete(w.unwritten.bySeq, seq)
	}
}

// postponeDeadLetter is called when e could not be made a dead letter because of err. It makes the worker repeat that later, without
// sending e again and without blocking other messages.
func (w *worker) postponeDeadLetter(p *Policy, e *entry, err error) error {
	w.unwritten.set(e)
	if len(w.trials.nonBlocking) >= maxDelayed {
		return err // e stays the next message
	}
	w.storeErrors.log(w.logger, "cannot store a dead letter, retrying", err)
	w.removeHead(e)
	w.markSetAside(e.seq)
	if e.trial {
		w.skipTrial(e)
	}
	later := *e
	later.delivery.NotBefore = time.Now().Add(storeRetryDelay)
	w.deferMessage(p, &later)
	return nil
}
