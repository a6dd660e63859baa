package upstream

import (
	"net/http"
	"sync"
	"sync/atomic"

	"cbproxy/internal/http1"
)

// connectionHeader records the Connection fields of the response on an HTTP/1.1 connection of http.Transport. http.Transport
// deletes a Connection field with the option close, so the fields that it names would be forwarded as end-to-end fields.
// The zero connectionHeader records none. It is safe for concurrent use.
type connectionHeader struct {
	encrypted bool        // the connection is below TLS; set before the connection is used
	active    atomic.Bool // a header section is expected

	mu    sync.Mutex // guards saved
	saved http1.ConnectionFields
}

// expect starts the recording for a new request, before it is sent.
func (c *connectionHeader) expect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved.Reset()
	c.active.Store(true)
}

// scan processes received bytes. After the header section it returns immediately.
func (c *connectionHeader) scan(p []byte) {
	if !c.active.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.saved.Scan(p) {
		c.active.Store(false)
	}
}

// restoreFinal restores the Connection field of the final response in its header h.
func (c *connectionHeader) restoreFinal(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved.RestoreFinal(h)
}

// restoreInterim restores the Connection field of the next interim response in its header h.
func (c *connectionHeader) restoreInterim(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saved.RestoreInterim(h)
}
