package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// DeferredError is the error of a Delivery that was not sent because the places of the half-open
// breaker are left to clients' requests for a time.
type DeferredError struct{ Until time.Time }

func (e *DeferredError) Error() string {
	return "the half-open circuit breaker's places are left to clients for now"
}

// reservedFor is for how long, at most, a half-open breaker's places are left to clients.
const reservedFor = 5 * time.Second

// reservation leaves the places of a half-open breaker to clients' requests, if there are any, before
// queued ones may take them: a queued request that fails would be sent again in each half-open state
// and keep all clients out. As a client's may do the same, it does so in every other half-open state
// only. Safe for concurrent use.
type reservation struct {
	refused atomic.Int64 // when a client's request was refused last, in nanoseconds since 1970

	mu    sync.Mutex // guards what follows
	phase time.Time  // when the half-open state began that was looked at last
	on    bool       // it leaves its places to clients
}

// note notes that a client's request was refused.
func (r *reservation) note(at time.Time) { r.refused.Store(at.UnixNano()) }

// until returns when queued requests may be sent; zero if that is now.
func (r *reservation) until(b *breaker.Breaker, now time.Time) time.Time {
	if b.State() != events.HalfOpen {
		return time.Time{}
	}
	status, recovery := b.Status(), b.Policy().RecoveryTimeout
	if status.State != events.HalfOpen {
		return time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !status.Since.Equal(r.phase) {
		asked := time.Unix(0, r.refused.Load()).After(status.Since.Add(-max(recovery, reservedFor)))
		r.phase, r.on = status.Since, asked && !r.on
	}
	if end := status.Since.Add(min(recovery, reservedFor)); r.on && now.Before(end) {
		return end
	}
	return time.Time{}
}
