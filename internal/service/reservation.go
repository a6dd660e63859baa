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

// clientReservation reserves the permits of a half-open breaker for clients' requests at the start of a half-open state, if the
// breaker has rejected such requests. Without it, a queued request that always fails could take the only permit of each half-open
// state, so that no client's request could show that the upstream has recovered. To guarantee progress of the queue too, of two
// consecutive half-open states at most one has a reservation. It is safe for concurrent use.
type clientReservation struct {
	lastRejection atomic.Int64 // latest start of a client's request that was rejected, in nanoseconds since 1970

	mu            sync.Mutex // guards the fields below
	halfOpenSince time.Time  // start of the last half-open state in which until was called
	reserved      bool       // that state has a reservation
}

// noteRejected records that a client's request that began at start was rejected.
func (r *clientReservation) noteRejected(start time.Time) {
	storeMax(&r.lastRejection, start.UnixNano())
}

// until returns the end of the reservation for clients; zero if there is none, so that queued requests may be sent.
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
