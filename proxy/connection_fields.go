package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"cbproxy/internal/http1"
	"cbproxy/internal/upstream"
)

// connectionFields keeps the Connection fields of the response on an HTTP/1.1 connection of http.Transport, which deletes one
// that has the option close. Safe for concurrent use. The zero connectionFields keeps none.
type connectionFields struct {
	below  bool        // the connection is below TLS; set before it is used
	active atomic.Bool // a header section is expected

	mu     sync.Mutex // guards fields
	fields http1.ConnectionFields
}

func (f *connectionFields) expect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fields.Reset()
	f.active.Store(true)
}

// scan reads what has come, which costs next to nothing in a response's body.
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

// ExpectResponse is called before a request is sent on a connection that carries one at a time.
func (c *upstreamConn) ExpectResponse() { c.fields.expect() }

// RestoreFields puts the Connection field of the final response back into its header, if http.Transport has deleted it.
func (c *upstreamConn) RestoreFields(h http.Header) {
	c.fields.mu.Lock()
	defer c.fields.mu.Unlock()
	c.fields.fields.RestoreFinal(h)
}

// restoreInterim is RestoreFields for the next interim response.
func (c *upstreamConn) restoreInterim(h http.Header) {
	c.fields.mu.Lock()
	defer c.fields.mu.Unlock()
	c.fields.fields.RestoreInterim(h)
}

var _ upstream.FieldsConn = (*upstreamConn)(nil)

// secureConn is a connection of http.Transport that speaks HTTP/1.1 over TLS.
type secureConn struct {
	*tls.Conn
	fields *connectionFields // of the upstreamConn below
}

func (c *secureConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.fields.scan(p[:n])
	return n, err
}

// transportClient is client for http.Transport, which recognises HTTP/2 by the type *tls.Conn.
func (u *upstreamTLS) transportClient(ctx context.Context, c net.Conn, address string) (net.Conn, error) {
	secured, err := u.client(ctx, c, address)
	if err != nil {
		return nil, err
	}
	t, ok := secured.(*tls.Conn)
	below, known := c.(*upstreamConn)
	if _, shared := upstream.Unwrap(secured, false); !ok || !known || shared {
		return secured, nil
	}
	below.fields.below = true
	return &secureConn{t, &below.fields}, nil
}

// cleanHeader deletes the hop-by-hop fields of the attempt's response, before anything else reads its header, and returns its
// Upgrade field.
func (a *attempt) cleanHeader(res *http.Response) (protocol string) {
	if a.conn != nil {
		a.conn.RestoreFields(res.Header)
	}
	protocol = res.Header.Get("Upgrade")
	a.hopByHop = upstream.RemoveHopByHop(res.Header)
	return protocol
}

// cleanTrailer deletes from the response's trailers what belongs to the connection, or to the proxy. It is called when the
// announced ones are known, and again when all are.
func (a *attempt) cleanTrailer(res *http.Response) {
	upstream.RemoveHopByHopTrailers(res.Trailer, a.hopByHop)
	removeSignals(res.Trailer)
}
