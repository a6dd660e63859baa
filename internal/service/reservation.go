package service

import (
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// DeferredError is the error of a Delivery that was not sent because the permits of the half-open breaker are reserved for
// clients' requests for some time.
type DeferredError struct{ Until time.Time }

func (e *DeferredError) Error() string {
	return "the permits of the half-open circuit breaker are reserved for client requests"
}

// maxReservation is the longest time for which the permits of a half-open breaker are reserved for clients' requests.
const maxReservation = 5 * time.Second

// clientReservation reserves the permits of a half-open breaker for clients' requests, if there are any, before queued ones
// may take them: a queued request that fails would be sent again in each half-open state and keep all clients out. As a
// client's request may do the same, only every other half-open state has a reservation. Safe for concurrent use.
type clientReservation struct {
	lastRejection atomic.Int64 // when a client's request was last rejected, in nanoseconds since 1970

	mu            sync.Mutex // guards the fields below
	halfOpenSince time.Time  // start of the last half-open state that was seen
	reserved      bool       // it has a reservation
}

// noteRejected records that a client's request was rejected.
func (r *clientReservation) noteRejected(at time.Time) { r.lastRejection.Store(at.UnixNano()) }

// until returns when queued requests may be sent; zero means now.
func (r *clientReservation) until(b *breaker.Breaker, now time.Time) time.Time {
	if b.State() != events.HalfOpen {
		return time.Time{}
	}
	status, recovery := b.Status(), b.Policy().RecoveryTimeout
	if status.State != events.HalfOpen {
		return time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !status.Since.Equal(r.halfOpenSince) {
		clientWaiting := time.Unix(0, r.lastRejection.Load()).After(status.Since.Add(-max(recovery, maxReservation)))
		r.halfOpenSince, r.reserved = status.Since, clientWaiting && !r.reserved
	}
	if end := status.Since.Add(min(recovery, maxReservation)); r.reserved && now.Before(end) {
		return end
	}
	return time.Time{}
}
