package queue

import (
	"context"
	"time"
)

// The methods of this file and removalsPending, notify implement localQueue.

func (w *worker) maxAge() time.Duration { return w.policy.Load().MaxAge }

func (w *worker) freeCapacity() int { return w.policy.Load().Capacity - int(w.depth.Load()) }

func (w *worker) addTakenOver(n int) { w.counts.takenOver.Add(uint64(n)) }

func (w *worker) stopped() <-chan struct{} { return w.done }

// acceptFromPeer stores a message that another instance had accepted.
func (w *worker) acceptFromPeer(ctx context.Context, payload []byte) (seq uint64, err error) {
	w.depth.Add(1)
	if seq, err = w.store.Add(ctx, w.service, payload); err != nil {
		w.depth.Add(-1)
		return 0, err
	}
	w.markChanged()
	w.notify()
	return seq, nil
}

// releaseToPeer removes a message that another instance has taken over, unless it is being sent. has reports whether the message is
// still in the store.
func (w *worker) releaseToPeer(seq uint64) (has bool, err error) {
	w.adminMu.Lock()
	defer w.adminMu.Unlock()
	if w.beginDrop(seq) != nil {
		return true, nil
	}
	if err := w.store.Delete(w.service, seq); err != nil {
		w.cancelDrop(seq)
		return true, err
	}
	w.finishDrop(seq)
	w.counts.released.Add(1)
	w.countRemoval()
	return false, nil
}
