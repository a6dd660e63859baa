package queue

import (
	"context"
	"time"
)

// The methods below, RemovalsPending and Notify make worker a mirror.Queue.

func (w *worker) MaxAge() time.Duration {
	if p := w.policy.Load(); !p.unconfigured {
		return p.MaxAge
	}
	return DefaultPolicy().MaxAge
}

func (w *worker) FreeCapacity() int {
	p := w.policy.Load()
	if p.unconfigured {
		return 0 // it could not deliver them
	}
	return p.Capacity - int(w.depth.Load())
}

func (w *worker) AddTakenOver(n int) { w.counts.takenOver.Add(uint64(n)) }

func (w *worker) Stopped() <-chan struct{} { return w.done }

// AcceptFromPeer stores a message that another instance had accepted.
func (w *worker) AcceptFromPeer(ctx context.Context, payload []byte) (seq uint64, err error) {
	w.depth.Add(1)
	if seq, err = w.store.Add(ctx, w.service, payload); err != nil {
		w.depth.Add(-1)
		return 0, err
	}
	w.markChanged()
	w.Notify()
	return seq, nil
}

// ReleaseToPeer removes a message that another instance has taken over, unless it is being sent. has reports whether the message is
// still in the store.
func (w *worker) ReleaseToPeer(seq uint64) (has bool, err error) {
	w.adminMu.Lock()
	defer w.adminMu.Unlock()
	if w.beginDrop(seq) != nil {
		has, err = w.store.Has(w.service, seq)
		return has || err != nil, err
	}
	// Look after beginDrop, because it may have been delivered or become dead before.
	if has, err = w.store.Has(w.service, seq); has {
		err = w.store.Delete(w.service, seq)
	}
	if err != nil || !has {
		w.cancelDrop(seq)
		return err != nil, err
	}
	w.finishDrop(seq)
	w.counts.released.Add(1)
	w.countRemoval()
	return false, nil
}
