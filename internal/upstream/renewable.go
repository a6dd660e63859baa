package upstream

import (
	"net/http"
	"sync/atomic"
)

// renewable is an http.Transport that can be replaced by one with new connections. Safe for concurrent use. No method waits
// for the old connections: http.Transport closes them under locks that every request needs, holds those locks while it
// calls httptrace hooks, and waits for connections whose peer reads nothing.
type renewable struct {
	transport atomic.Pointer[http.Transport]
}

func (r *renewable) init(t *http.Transport) { r.transport.Store(t) }

// current returns the transport for a new request.
func (r *renewable) current() *http.Transport { return r.transport.Load() }

// renew makes requests use new connections from now on. A connection in use ends after its last request.
func (r *renewable) renew() {
	old := r.transport.Load()
	if r.transport.CompareAndSwap(old, old.Clone()) { // otherwise another goroutine has renewed it just now
		go old.CloseIdleConnections()
	}
}

// close closes the connections that are not in use.
func (r *renewable) close() { go r.transport.Load().CloseIdleConnections() }
