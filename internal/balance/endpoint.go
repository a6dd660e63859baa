package balance

import (
	"net/netip"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/refcount"
	"cbproxy/internal/upstream"
)

// Endpoint is one endpoint of a service. It is safe for concurrent use.
type Endpoint struct {
	// URL is events.EndpointStatus.URL.
	URL string
	// Target is where requests are sent: for an address that DNS has returned, the name.
	Target upstream.Target
	// Pool holds the connections.
	Pool *upstream.Pool

	key         key
	sets        refcount.Counter // the sets that have the endpoint
	removed     atomic.Bool      // no set has it any more
	inFlight    atomic.Int64
	failures    atomic.Int64 // of requests, consecutive
	lastFailure atomic.Pointer[events.Failure]
	ejected     atomic.Bool // written with group.mu held

	ejection // guarded by group.mu
}

// key identifies an endpoint in consecutive configurations.
type key struct {
	source  any        // Source.Key
	address netip.Addr // not valid: the endpoint is the source's URL
}

// ejection is the state of an endpoint's ejections.
type ejection struct {
	until         time.Time // when the latest ejection ends
	onTrial       bool      // a request that tries the endpoint after its ejection is in flight
	inRow         int       // number of consecutive ejections; 0: none
	reinstated    time.Time // when the latest one ended; zero: never
	total         uint64
	checkFailures int // of health checks, consecutive
}

// Ejected reports whether the endpoint gets no requests, except for a trial.
func (e *Endpoint) Ejected() bool { return e.ejected.Load() }

// acquire adds a set that has the endpoint.
func (e *Endpoint) acquire() { e.sets.Acquire(func() { e.removed.Store(false) }) }

// release removes a set. When no set has the endpoint any more, its connections are closed as soon as no attempt is in flight.
func (e *Endpoint) release() {
	e.sets.Release(func() {
		e.removed.Store(true)
		e.Pool.Close()
	})
}

// Lease is the use of an endpoint by one attempt. One of Succeeded and Failed may be called, once the outcome is known; Release must be
// called when the attempt has ended. Further calls do nothing. The zero Lease has no endpoint. It is not safe for concurrent use.
type Lease struct {
	*Endpoint
	set   *Set
	trial bool // the first request after an ejection
}

// Succeeded reports that the endpoint has answered.
func (l *Lease) Succeeded() {
	if l.set == nil {
		return
	}
	l.set.setCareful(false)
	if l.failures.Load() != 0 {
		l.failures.Store(0)
	}
	if l.trial {
		l.trial = false
		l.set.endTrial(l.Endpoint, nil)
	}
}

// StreamStarted reports that the endpoint has begun an answer that may have no end. The failures in a row stay, as the rest of the answer
// may fail, but a trial has succeeded.
func (l *Lease) StreamStarted() {
	switch {
	case l.trial:
		l.Succeeded()
	case l.set != nil:
		l.set.setCareful(false)
	}
}

// Failed reports a failure of the endpoint.
func (l *Lease) Failed(f *events.Failure) {
	if l.set == nil {
		return
	}
	l.lastFailure.Store(f)
	n := l.failures.Add(1)
	l.set.setCareful(true)
	if f.Type == events.ErrorConnect {
		l.set.resolveSoon()
	}
	if l.trial {
		l.trial = false
		l.set.endTrial(l.Endpoint, f)
		return
	}
	if limit := l.set.config.Policy.FailMax; limit > 0 && n >= int64(limit) {
		l.set.eject(l.Endpoint, events.EndpointFailed, f)
	}
}

// Release ends the use. A trial without an outcome is made again by the next request.
func (l *Lease) Release() {
	if l.set == nil {
		return
	}
	if l.trial {
		l.set.cancelTrial(l.Endpoint)
	}
	if l.inFlight.Add(-1) == 0 && l.removed.Load() {
		l.Pool.Close()
	}
	*l = Lease{Endpoint: l.Endpoint}
}
