package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

var (
	// ErrUnknown is the error of an ID without a message.
	ErrUnknown = errors.New("no queued request has this id")
	// ErrInFlight is the error of a message that cannot be dropped because it is being sent.
	ErrInFlight = errors.New("the request is being sent")
)

// find returns the worker and the sequence number of the message with an ID.
func (q *Queues) find(id string) (*worker, uint64, error) {
	service, seq := parseID(id)
	w := q.allWorkers()[service]
	if w == nil || seq == 0 {
		return nil, 0, ErrUnknown
	}
	return w, seq, nil
}

// Retry makes a message be sent as soon as the breaker and, in an ordered queue, the messages before it permit. A dead message is added
// to the end of the queue; its attempts count from zero, and its age from now.
func (q *Queues) Retry(ctx context.Context, id string) (events.QueuedRequest, error) {
	w, seq, err := q.find(id)
	if err != nil {
		return events.QueuedRequest{}, err
	}
	w.adminMu.Lock()
	defer w.adminMu.Unlock()
	r, dead, found, err := q.config.Store.Get(w.service, seq)
	switch {
	case err != nil:
		return events.QueuedRequest{}, err
	case !found || !dead && w.isDelivered(seq):
		return events.QueuedRequest{}, ErrUnknown
	case dead:
		requeued := deliveryState{Requeued: time.Now().UTC()}
		r.DeliveryState = requeued.encode()
		if r.Seq, err = q.requeue(ctx, w, seq, r.DeliveryState); r.Seq == 0 {
			return events.QueuedRequest{}, err
		}
	}
	if err == nil && !dead {
		err = q.clearDelay(w, &r)
	}
	w.mu.Lock()
	w.retryNow = append(w.retryNow, r.Seq)
	w.mu.Unlock()
	w.Notify()
	return queuedRequest(w.service, StateWaiting, entryOf(r), w.policy.Load().Keys), err
}

// clearDelay removes the delay of a waiting message from the store, so that it is sent at once after a restart, too. It does nothing
// for a message that is being sent, because the outcome determines its next delay.
func (q *Queues) clearDelay(w *worker, r *disk.Record) error {
	w.mu.Lock()
	sending := w.sendingSeq == r.Seq
	w.mu.Unlock()
	n := parseDeliveryState(r.DeliveryState)
	if sending || n.NotBefore.IsZero() {
		return nil
	}
	n.NotBefore = time.Time{}
	r.DeliveryState = n.encode()
	if err := q.config.Store.SetDeliveryState(w.service, r.Seq, r.DeliveryState); err != nil {
		return fmt.Errorf("store the retry of %s, which is in effect until a restart: %w", formatID(w.service, r.Seq), err)
	}
	return nil
}

// requeue makes a dead message wait again, under the sequence number that it returns. With an error and a number the message is both
// waiting and dead.
func (q *Queues) requeue(ctx context.Context, w *worker, seq uint64, deliveryState []byte) (newSeq uint64, err error) {
	w.depth.Add(1) // before the message can be delivered
	newSeq, err = q.config.Store.Requeue(ctx, w.service, seq, deliveryState)
	if newSeq == 0 {
		w.depth.Add(-1)
		w.Notify() // reading may have stopped at the message that was being added
		err = cmp.Or(err, ErrUnknown)
	}
	w.markChanged()
	w.mirror.RecordAdded()
	return newSeq, err
}

// Drop removes a message permanently.
func (q *Queues) Drop(id string) (events.QueuedRequest, error) {
	w, seq, err := q.find(id)
	if err != nil {
		return events.QueuedRequest{}, err
	}
	w.adminMu.Lock()
	defer w.adminMu.Unlock()
	if err := w.beginDrop(seq); err != nil {
		return events.QueuedRequest{}, err
	}
	// Read it after beginDrop, because it may have been delivered or become dead before.
	r, dead, found, err := q.config.Store.Get(w.service, seq)
	if err == nil && !found {
		err = ErrUnknown
	}
	if err == nil {
		err = q.config.Store.Delete(w.service, seq)
	}
	if err != nil {
		w.cancelDrop(seq)
		return events.QueuedRequest{}, err
	}
	w.finishDrop(seq)
	state := StateDead
	if !dead {
		state = StateWaiting
		w.countRemoval()
		w.mirror.RecordRemoved(seq)
	}
	w.markChanged()
	return queuedRequest(w.service, state, entryOf(r), w.policy.Load().Keys), nil
}

// drop is the progress of removing a waiting message while the worker may be about to send it:
//
//	beginDrop  -> dropBegun    the worker must not send the message; the caller deletes it from the store
//	worker     -> dropSkipped  only if the message was next: the worker has skipped it and forgotten it
//	finishDrop -> dropDone     the deletion succeeded
//	cancelDrop -> (no entry)   the deletion failed; a skipped message is queued again by way of worker.restoredSeqs
type drop uint8

const (
	dropBegun   drop = iota + 1
	dropSkipped      // the worker has skipped the message, and no longer has it in memory
	dropDone         // the message is removed from the store
)

// beginDrop prevents a message from being sent, unless it is being sent or was delivered.
func (w *worker) beginDrop(seq uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.sendingSeq == seq:
		return ErrInFlight
	case w.deliveredInStore[seq] || w.drops[seq] != 0:
		return ErrUnknown
	}
	w.drops[seq] = dropBegun
	return nil
}

// cancelDrop reverts beginDrop.
func (w *worker) cancelDrop(seq uint64) {
	w.mu.Lock()
	if w.drops[seq] == dropSkipped {
		w.restoredSeqs = append(w.restoredSeqs, seq)
	}
	delete(w.drops, seq)
	w.mu.Unlock()
	w.Notify()
}

// finishDrop records that the message is removed from the store, so that the worker stops waiting for it.
func (w *worker) finishDrop(seq uint64) {
	w.mu.Lock()
	w.drops[seq] = dropDone
	delete(w.setAside, seq)
	w.removedSeqs = append(w.removedSeqs, seq)
	w.mu.Unlock()
	w.Notify()
}
