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
//   - It keeps the response of an upstream that responds and closes while the request is still being sent. http.Transport
//     would report the failed write and drop the response. Once part of a request with a body is out, a failed write counts
//     as done, unless the transport itself has closed the connection; what the upstream sent is found by reading.
//   - It reports the end of the connection while a request's body is being sent, for which http.Transport waits.
//   - It keeps the Connection fields of responses, see connectionFields.
type Conn struct {
	net.Conn
	uploadLost atomic.Pointer[func(error)] // called when the connection ends; nil: the request has no body
	sent       atomic.Bool                 // part of the request has been written
	lastRead   atomic.Int64                // time of the last read, by elapsed
	ended      atomic.Bool                 // the upstream has closed it
	fields     connectionFields            // of the response, where it is plain HTTP/1.1 or below a secureConn
}

// BeginRequest is called before the first byte of a request is written, on a connection that carries one request at a time.
// lost is called with the error that ends the connection while the request is under way, on a goroutine of http.Transport;
// nil: the request has no body.
func (c *Conn) BeginRequest(lost func(error)) {
	c.fields.expect()
	c.sent.Store(false)
	if lost == nil {
		c.uploadLost.Store(nil)
		return
	}
	c.uploadLost.Store(&lost)
}

// BeginTunnel is called when the connection becomes a tunnel, whose failed writes are reported.
func (c *Conn) BeginTunnel() { c.uploadLost.Store(nil) }

// Ended reports whether the upstream has closed the connection.
func (c *Conn) Ended() bool { return c.ended.Load() }

// SilentSince reports whether nothing has arrived since t.
func (c *Conn) SilentSince(t time.Time) bool { return c.lastRead.Load() < int64(t.Sub(processStart)) }

func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.lastRead.Store(elapsed())
	if !c.fields.encrypted {
		c.fields.scan(p[:n])
	}
	if err != nil {
		c.ended.Store(!errors.Is(err, net.ErrClosed))
		if lost := c.uploadLost.Load(); lost != nil {
			(*lost)(err)
		}
	}
	return n, err
}

func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && c.uploadLost.Load() != nil && c.sent.Load() && !errors.Is(err, net.ErrClosed) {
		return len(p), nil
	}
	c.sent.Store(true)
	return n, err
}

// closeNotifyTimeout bounds the write of a TLS connection's last record, for which http.Transport waits under the
// connection's lock.
const closeNotifyTimeout = 250 * time.Millisecond

// SetWriteDeadline sets a deadline that is at most closeNotifyTimeout away: only tls.Conn.Close sets one, of 5 s.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(closeNotifyTimeout); !t.IsZero() && t.After(latest) {
		t = latest
	}
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite is for tunnels: the end of the client's data is passed on, and the upstream may still send.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// RestoreFields puts the Connection field of the final response back into its header, if http.Transport has deleted it.
func (c *Conn) RestoreFields(h http.Header) {
	c.fields.mu.Lock()
	defer c.fields.mu.Unlock()
	c.fields.fields.RestoreFinal(h)
}

// RestoreInterimFields is RestoreFields for the next interim response.
func (c *Conn) RestoreInterimFields(h http.Header) {
	c.fields.mu.Lock()
	defer c.fields.mu.Unlock()
	c.fields.fields.RestoreInterim(h)
}
