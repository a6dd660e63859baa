package queue

import (
	"container/heap"
	"time"
)

// halfOpenDelay is how long to wait for a permit of a half-open breaker.
const halfOpenDelay = time.Second

// maxUndelayedFailures is the number of consecutive failures after which a new message no longer ends the pause between deliveries. Up
// to that number each new message triggers an attempt at once, so that the breaker gets enough outcomes to open.
const maxUndelayedFailures = 10

// Notify wakes the worker. Safe for concurrent use.
func (w *worker) Notify() { signal(w.wake) }

// markChanged makes the worker's status be published. Safe for concurrent use.
func (w *worker) markChanged() { signal(w.changes) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it holds a token
	}
}

// breakerChanged records that the breaker's state has changed, and whether it closed. Safe for concurrent use.
func (w *worker) breakerChanged(closed bool) {
	w.mu.Lock()
	w.breakerRetryAt = time.Time{}
	w.breakerEvents++
	w.breakerClosed = w.breakerClosed || closed
	w.mu.Unlock()
	w.Notify()
}

// messageArrived records that a message was accepted. Safe for concurrent use.
func (w *worker) messageArrived() {
	w.mu.Lock()
	w.newArrival = true
	w.mu.Unlock()
	w.Notify()
}

// applyPendingRequests applies what other goroutines have recorded in the fields guarded by mu: retries and drops by administrators,
// state changes of the breaker and new messages, which end a pause, and failed removals, which it repeats.
func (w *worker) applyPendingRequests() {
	w.mu.Lock()
	retryNow, dropped, restored, failedRemovals := w.retryNow, w.removedSeqs, w.restoredSeqs, w.failedRemovals
	closed := w.breakerClosed && !w.pauseRequested // a 429 response closes a breaker, too
	arrival := w.newArrival && !w.pauseRequested && w.failures < maxUndelayedFailures
	w.retryNow, w.removedSeqs, w.restoredSeqs, w.failedRemovals, w.breakerClosed, w.newArrival = nil, nil, nil, nil, false, false
	if len(retryNow) > 0 {
		w.breakerRetryAt = time.Time{}
	}
	w.mu.Unlock()
	for _, seq := range failedRemovals {
		w.removeDelivered(seq)
	}
	for _, seq := range restored {
		heap.Push(&w.delayed, delayedMessage{seq: seq})
	}
	if len(retryNow) > 0 || closed || arrival {
		w.pausedUntil = time.Time{}
	}
	if len(retryNow) > 0 {
		w.trials.nonBlockingPausedUntil = time.Time{}
	}
	// In an unordered queue the new message itself tests the upstream.
	if len(w.delayed) > 0 && (closed || arrival && w.policy.Load().Ordered) {
		retryNow = append(retryNow, w.delayed[0].seq)
	}
	for _, seq := range append(retryNow, dropped...) {
		w.delayed.makeDue(seq)
		w.trials.nonBlocking.makeDue(seq)
	}
}
