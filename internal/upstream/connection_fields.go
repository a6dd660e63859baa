package upstream

import (
	"sync"
	"sync/atomic"

	"cbproxy/internal/http1"
)

// connectionFields keeps the Connection fields of the response on an HTTP/1.1 connection of http.Transport, which deletes
// one that has the option close: the fields that it names would pass as end-to-end fields. Safe for concurrent use. The zero
// connectionFields keeps none.
type connectionFields struct {
	encrypted bool        // the connection is below TLS; set before it is used
	active    atomic.Bool // a header section is expected

	mu     sync.Mutex // guards fields
	fields http1.ConnectionFields
}

// expect is called before a request is sent.
func (f *connectionFields) expect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fields.Reset()
	f.active.Store(true)
}

// scan reads what has arrived. In a response's body it costs next to nothing.
func (f *connectionFields) scan(p []byte) {
	if !f.active.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fields.Scan(p) {
		f.active.Store(false)
	}
}
