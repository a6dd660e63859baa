package upstream

import (
	"net/http"
	"sync/atomic"
)

// replaceableTransport is an http.Transport that can be replaced by one with new connections. It is safe for concurrent use. No
// method waits until the old connections are closed: http.Transport closes them while it holds locks that every request needs,
// holds those locks while it calls httptrace hooks, and waits for connections whose peer does not read.
type replaceableTransport struct {
	transport atomic.Pointer[http.Transport]
}

func (r *replaceableTransport) init(t *http.Transport) { r.transport.Store(t) }

// current returns the transport for a new request.
func (r *replaceableTransport) current() *http.Transport { return r.transport.Load() }

// replace makes requests use new connections from now on. A connection in use ends after its last request.
func (r *replaceableTransport) replace() {
	old := r.transport.Load()
	if r.transport.CompareAndSwap(old, old.Clone()) { // otherwise another goroutine has just replaced it
		go old.CloseIdleConnections()
	}
}

// close closes the idle connections in the background.
func (r *replaceableTransport) close() { go r.transport.Load().CloseIdleConnections() }
