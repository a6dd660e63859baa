package queue

import (
	"container/heap"
	"maps"
	"time"

	"cbproxy/internal/queue/disk"
)

const (
	// readBatch and readBytes bound how much of a backlog is read at once.
	readBatch = 64
	readBytes = 1 << 20
	// maxDelayed bounds the delayed messages of an unordered queue, and the messages that are set aside in an ordered one.
	maxDelayed = 1000
)

// schedule is the part of a worker's state that determines which message is sent next, and when.
type schedule struct {
	ordered                bool            // the value of Policy.Ordered for which the other fields are valid
	cursor                 uint64          // the last message that was read
	skip                   map[uint64]bool // messages not to be read, because they are delivered
	readAhead              []disk.Record   // messages that were read and come next
	head                   *entry          // the next message, nil if not known
	delayed                delayHeap       // messages that wait for their next attempt
	failures               int             // consecutive failures
	lastNotCausedByMessage bool            // the last attempt failed with NotCausedByMessage
	pausedUntil            time.Time       // no message is sent before, after a failure
	pauseRequested         bool            // the upstream requested the pause by Retry-After
	trials                 trialState
	unwritten              unwrittenStates
}

// nextMessage returns the message to be sent next, or nil and how long to wait for one.
func (w *worker) nextMessage(p *Policy) (e *entry, wait time.Duration, err error) {
	limit := maxDelayed
	if p.Ordered {
		limit = 1
	}
	if p.Ordered != w.ordered {
		w.ordered = p.Ordered
		w.rewind()
	}
	for w.head == nil {
		now := time.Now()
		if due := w.dueHeap(now); due != nil {
			if err := w.popDue(due); err != nil {
				return nil, 0, err
			}
			continue
		}
		if len(w.delayed) >= limit || !p.Ordered && len(w.delayed)+len(w.trials.nonBlocking) >= limit {
			return nil, w.untilNextDue(), nil
		}
		if len(w.readAhead) == 0 {
			if w.readAhead, err = w.store.Read(w.service, w.cursor, readBatch, readBytes); err != nil {
				return nil, 0, err
			}
			maps.DeleteFunc(w.skip, func(seq uint64, _ bool) bool { return seq <= w.cursor })
		}
		switch {
		case len(w.readAhead) > 0:
			w.readOne(p, now)
		case len(w.delayed)+len(w.trials.nonBlocking) > 0:
			return nil, w.untilNextDue(), nil
		default:
			w.clearDrops()
			return nil, maxWait, nil
		}
	}
	return w.head, 0, nil
}

// popDue removes the first message of a heap, which becomes the head unless it was dropped meanwhile.
func (w *worker) popDue(due *delayHeap) error {
	r, dead, found, err := w.store.Get(w.service, (*due)[0].seq)
	if err != nil {
		return err
	}
	heap.Pop(due)
	if found && !dead {
		e := w.entryOf(r)
		if w.head = &e; e.delivery.blocksNothing() {
			w.markSetAside(e.seq)
		}
	}
	return nil
}

// readOne takes the first message of readAhead. It becomes the head unless its next attempt is not due.
func (w *worker) readOne(p *Policy, now time.Time) {
	e := w.entryOf(w.readAhead[0])
	w.cursor, w.readAhead = e.seq, w.readAhead[1:]
	switch {
	case w.skip[e.seq]:
		return
	case e.delivery.blocksNothing():
		w.markSetAside(e.seq)
	}
	if e.delivery.NotBefore.After(now) {
		w.deferMessage(p, &e)
	} else {
		w.head = &e
	}
}

// rewind restarts reading at the oldest message. It is called when Policy.Ordered changes, because the cursor and the heaps are valid
// for one value only.
func (w *worker) rewind() {
	w.cursor, w.readAhead, w.head, w.delayed = 0, nil, nil, nil
	w.trials = trialState{}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.setAside)
	w.skip = maps.Clone(w.deliveredInStore)
}

// deferMessage adds a message to the delayed ones until its next attempt is due or it expires.
func (w *worker) deferMessage(p *Policy, e *entry) {
	due := e.delivery.NotBefore
	if latest := time.Now().Add(max(p.MaxBackoff, maxRetryAfter)); latest.Before(due) {
		due = latest // the clock was set back since due was stored
	}
	if expiry := time.Now().Add(p.remaining(e)); expiry.Before(due) {
		due = expiry
	}
	h := &w.delayed
	if e.delivery.blocksNothing() || !p.Ordered && e.delivery.suspect() {
		h = &w.trials.nonBlocking
	}
	heap.Push(h, delayedMessage{e.seq, due})
}

// untilNextDue returns how long it is until the first delayed message may be sent.
func (w *worker) untilNextDue() time.Duration {
	until := w.nextDue()
	w.scheduleNext(until, w.pausedUntil)
	return time.Until(until)
}

// sendDelay returns how long to wait before e may be sent.
func (w *worker) sendDelay(e *entry) time.Duration {
	paused := w.pausedUntil
	if w.exemptFromPause(e) {
		paused = time.Time{}
	}
	return time.Until(w.scheduleNext(time.Time{}, paused))
}

// scheduleNext returns the latest of due, the end of a pause, and the time from which the breaker may admit a message. It records the
// result for the status.
func (w *worker) scheduleNext(due, paused time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range []time.Time{paused, w.breakerRetryAt} {
		if other.After(due) {
			due = other
		}
	}
	w.nextAttempt = due
	return due
}
