package queue

import (
	"maps"
	"sync"
	"time"

	"cbproxy/internal/events"
)

// sharedState is what the worker's goroutine shares with other goroutines: their requests to the worker, and its status. All methods are safe for
// concurrent use.
type sharedState struct {
	mu               sync.Mutex      // guards the fields below
	breakerRetryAt   time.Time       // no message is sent before, because the breaker rejected one
	breakerEvents    uint64          // the number of state changes of the breaker
	sendingSeq       uint64          // the message that is being sent; 0 if none
	drops            map[uint64]drop // messages that are being dropped or were dropped
	setAside         map[uint64]bool // messages that are set aside
	deliveredInStore map[uint64]bool // messages that are delivered and still in the store
	lastError        string          // why the last attempt failed; "" after a success
	lastReason       events.Reason   // likewise
	nextAttempt      time.Time       // shown in the status

	// What applyPendingRequests applies.
	retryNow       []uint64 // messages that an administrator wants retried at once
	removedSeqs    []uint64 // messages that were removed and must not delay later ones
	restoredSeqs   []uint64 // messages that the worker skipped because of a drop that was then cancelled
	failedRemovals []uint64 // messages of deliveredInStore whose removal failed
	breakerClosed  bool     // the breaker has closed
	newArrival     bool     // a message was accepted
}

// breakerEventCount returns the number of state changes of the breaker.
func (s *sharedState) breakerEventCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breakerEvents
}

// waitForBreaker stops deliveries until the given time, unless the breaker's state has changed since breakerEventCount returned count.
func (s *sharedState) waitForBreaker(until time.Time, count uint64) {
	if now := time.Now(); !until.After(now) {
		until = now.Add(halfOpenDelay)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breakerEvents == count {
		s.breakerRetryAt = until
	}
}

// untilBreakerRetry returns how long the breaker will reject messages.
func (s *sharedState) untilBreakerRetry() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.breakerRetryAt)
}

// isDropped reports whether a message was dropped or is being dropped.
func (s *sharedState) isDropped(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drops[seq] != 0
}

// markSetAside records that a message is set aside, so that it does not count for Queues.Waiting. It ignores a message that is dropped.
func (s *sharedState) markSetAside(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drops[seq] == 0 {
		s.setAside[seq] = true
	}
}

// setLastError sets why the last attempt failed, for the status; empty strings mean that it succeeded.
func (s *sharedState) setLastError(reason events.Reason, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastReason, s.lastError = reason, problem
}

// isDelivered reports whether a message is delivered and still in the store.
func (s *sharedState) isDelivered(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliveredInStore[seq]
}

// RemovalsPending reports whether any delivered message is still in the store.
func (s *sharedState) RemovalsPending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.deliveredInStore) > 0
}

// clearDrops forgets completed drops. It is called when no message is waiting.
func (s *sharedState) clearDrops() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.drops, func(_ uint64, d drop) bool { return d == dropDone })
}

// endSend marks that no message is being sent.
func (s *sharedState) endSend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendingSeq = 0
}
