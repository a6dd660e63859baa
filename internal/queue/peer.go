package queue

import (
	"context"
	"time"
)

// localQueue is what the mirror uses of the worker whose messages it copies. All methods are safe for concurrent use.
type localQueue interface {
	// maxAge returns Policy.MaxAge.
	maxAge() time.Duration
	// freeCapacity returns how many messages may be added.
	freeCapacity() int
	// acceptFromPeer adds a message of another instance to the store.
	acceptFromPeer(ctx context.Context, payload []byte) (seq uint64, err error)
	// releaseToPeer removes a message that another instance has taken over, unless it is being sent. has reports whether the message is
	// still in the store.
	releaseToPeer(seq uint64) (has bool, err error)
	// addTakenOver counts messages that were taken over.
	addTakenOver(n int)
	// removalsPending reports whether any delivered message is still in the store.
	removalsPending() bool
	// notify makes the worker call mirror.ready again.
	notify()
	// stopped returns a channel that is closed when no more messages are delivered.
	stopped() <-chan struct{}
}

// The methods below, removalsPending and notify make worker a localQueue.

func (w *worker) maxAge() time.Duration {
	if p := w.policy.Load(); !p.unconfigured {
		return p.MaxAge
	}
	return DefaultPolicy().MaxAge
}

func (w *worker) freeCapacity() int {
	p := w.policy.Load()
	if p.unconfigured {
		return 0 // it could not deliver them
	}
	return p.Capacity - int(w.depth.Load())
}

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
