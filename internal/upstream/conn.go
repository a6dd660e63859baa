package upstream

import (
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Conn is a connection of a pool's http.Transport, below TLS. It adds what http.Transport lacks:
//
//   - It preserves the response of an upstream that responds and closes the connection while the request is still being sent.
//     http.Transport would report the failed write and drop the response. Once part of a request with a body has been sent, a
//     failed write is reported as successful, unless the transport itself has closed the connection; the response is then read.
//   - It reports the end of the connection while a request's body is being sent. http.Transport would first wait for the body.
//   - It preserves the Connection fields of responses, see connectionHeader.
type Conn struct {
	net.Conn
	onEndDuringUpload atomic.Pointer[func(error)] // called when the connection ends; nil if the request has no body
	sent              atomic.Bool                 // part of the request has been written
	lastRead          atomic.Int64                // time of the last read, by elapsed
	closedByUpstream  atomic.Bool                 // the upstream has closed it
	header            connectionHeader            // of the response; not used over HTTP/2
}

// BeginRequest must be called before the first byte of a request is written, on a connection that carries one request at a time.
// onEnd is nil for a request without a body. Otherwise it is called on a goroutine of http.Transport with the error that ends the
// connection during the request.
func (c *Conn) BeginRequest(onEnd func(error)) {
	c.header.expect()
	c.sent.Store(false)
	if onEnd == nil {
		c.onEndDuringUpload.Store(nil)
		return
	}
	c.onEndDuringUpload.Store(&onEnd)
}

// BeginTunnel must be called when the connection becomes a tunnel. From then on, failed writes are reported.
func (c *Conn) BeginTunnel() { c.onEndDuringUpload.Store(nil) }

// ClosedByUpstream reports whether the upstream has closed the connection.
func (c *Conn) ClosedByUpstream() bool { return c.closedByUpstream.Load() }

// NothingReadSince reports whether nothing has arrived since t.
func (c *Conn) NothingReadSince(t time.Time) bool {
	return c.lastRead.Load() < int64(t.Sub(processStart))
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.lastRead.Store(elapsed())
	if !c.header.encrypted {
		c.header.scan(p[:n])
	}
	if err != nil {
		c.closedByUpstream.Store(!errors.Is(err, net.ErrClosed))
		if onEnd := c.onEndDuringUpload.Load(); onEnd != nil {
			(*onEnd)(err)
		}
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && c.onEndDuringUpload.Load() != nil && c.sent.Load() && !errors.Is(err, net.ErrClosed) {
		return len(p), nil
	}
	c.sent.Store(true)
	return n, err
}

// closeNotifyTimeout bounds the write of a TLS connection's last record, for which http.Transport waits under the
// connection's lock.
const closeNotifyTimeout = 250 * time.Millisecond

// SetWriteDeadline sets a write deadline of at most closeNotifyTimeout from now. Only tls.Conn.Close sets one, of 5 s.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(closeNotifyTimeout); !t.IsZero() && t.After(latest) {
		t = latest
	}
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite closes the writing side, after which the upstream can still send. Tunnels use it when the client has sent all its
// data.
func (c *Conn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}

// RestoreFields restores the Connection field of the final response in its header h, if http.Transport has deleted it.
func (c *Conn) RestoreFields(h http.Header) {
	c.header.restoreFinal(h)
}

// RestoreInterimFields restores the Connection field of the next interim response in its header h.
func (c *Conn) RestoreInterimFields(h http.Header) {
	c.header.restoreInterim(h)
}
