package upstream

import (
	"net/http"
	"sync/atomic"
)

// Renewable is an http.Transport that can be replaced by one with new connections. Safe for concurrent use. Neither method
// waits for the old connections: http.Transport closes them under locks that every request needs, holds those locks while
// it calls httptrace hooks, and waits for connections whose peer reads nothing.
type Renewable struct {
	current atomic.Pointer[http.Transport]
}

// NewRenewable returns a Renewable that is t for now.
func NewRenewable(t *http.Transport) *Renewable {
	r := new(Renewable)
	r.current.Store(t)
	return r
}

// Current returns the transport for a new request.
func (r *Renewable) Current() *http.Transport { return r.current.Load() }

// Renew makes requests use new connections from now on. A connection in use ends after its last request.
func (r *Renewable) Renew() {
	old := r.current.Load()
	if r.current.CompareAndSwap(old, old.Clone()) { // or another goroutine has renewed it just now
		go old.CloseIdleConnections()
	}
}

// Close closes the connections that are not in use.
func (r *Renewable) Close() { go r.current.Load().CloseIdleConnections() }
