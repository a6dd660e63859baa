package upstream

import (
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

	mu    sync.Mutex // guards fields
	saved http1.ConnectionFields
}

// expect starts the recording for a new request, before it is sent.
func (f *connectionHeader) expect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved.Reset()
	f.active.Store(true)
}

// scan processes received bytes. After the header section it returns immediately.
func (f *connectionHeader) scan(p []byte) {
	if !f.active.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.saved.Scan(p) {
		f.active.Store(false)
	}
}
