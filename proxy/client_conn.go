package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// clientListener hands out connections as clientConns.
type clientListener struct{ net.Listener }

func (l clientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: c}, nil
}

// clientConn is a client's connection. Once a server has adopted it, and as long as it
// speaks HTTP/1, it does what net/http's server leaves undone: it notices requests whose
// framing is ambiguous, it puts net/http's own refusals into the proxy's words, and it lets
// no client block a write for ever. HTTP/2 and tunnels pass through it untouched.
type clientConn struct {
	net.Conn
	unread  []byte      // has come before net/http's server has got the connection
	watched atomic.Bool // adopted, and neither HTTP/2 nor a tunnel
	serving atomic.Bool // from the start of a handler until its response is out
	unended atomic.Bool // from the start of a handler for a request of HTTP/1.0 until it has written all of its response

	heads     headScanner // net/http never reads on two goroutines at once
	codings   atomic.Bool // what heads has found, for other goroutines
	ambiguous atomic.Bool
	beyond    atomic.Bool // net/http has been given something of what follows a header section

	refused  refused       // is told of net/http's refusals
	patience time.Duration // a write may block for so long, 0 = for ever
	far      atomic.Int64  // on the clock of sinceStart: until then the write deadline needs no setting
	mu       sync.Mutex    // held while the write deadline and what tells of it are set
	handlers atomic.Bool   // the write deadline is a handler's
}

type clientConnKey struct{}

// adopt is a server's ConnContext.
func adopt(ctx context.Context, nc net.Conn, patience time.Duration, refused refused) context.Context {
	c, ok := nc.(*clientConn)
	if !ok {
		return ctx // not of Listen's making
	}
	c.patience, c.refused = patience, refused
	c.watched.Store(true)
	return context.WithValue(ctx, clientConnKey{}, c)
}

// stateChanged is a server's ConnState.
func stateChanged(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*clientConn)
	if !ok {
		return
	}
	switch state {
	case http.StateIdle: // the response is out
		c.serving.Store(false)
	case http.StateHijacked:
		c.watched.Store(false)
		_ = c.Conn.SetWriteDeadline(time.Time{}) // whoever has the connection now sets its own
	}
}

// Close closes the connection. A response to HTTP/1.0 may end with the connection: one that is cut is reset, as its client would
// take a close for its end.
func (c *clientConn) Close() error {
	if c.unended.Load() {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // of a closed connection there is nothing to reset
		}
	}
	return c.Conn.Close()
}

// NetConn returns the connection that it is made of.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if n > 0 && c.watched.Load() {
		c.watch(p[:n])
	}
	return n, err
}

func (c *clientConn) read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *clientConn) watch(p []byte) {
	c.heads.scan(p)
	c.beyond.Store(!bytes.HasSuffix(p, []byte("\n\n")) && !bytes.HasSuffix(p, []byte("\n\r\n")))
	switch {
	case c.heads.http2():
		c.watched.Store(false)
	case c.heads.ambiguous:
		c.ambiguous.Store(true)
		fallthrough
	case c.heads.codings:
		c.codings.Store(true)
	}
}

func (c *clientConn) Write(p []byte) (int, error) {
	if !c.watched.Load() {
		return c.Conn.Write(p)
	}
	c.limitWrite()
	if !c.serving.Load() { // net/http itself is speaking, and in one write
		if refusal, status := refusalFor(p); refusal != nil {
			c.refused(c.RemoteAddr().String(), status)
			if _, err := c.Conn.Write(refusal); err != nil {
				return 0, err
			}
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

// CloseWrite tells the client that no more will come.
func (c *clientConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

var start = time.Now()

// sinceStart is a monotonic clock.
func sinceStart() int64 { return int64(time.Since(start)) }

// limitWrite gives the write that follows a deadline at least patience away, unless a
// handler has set one. Most times the one that is set still is.
func (c *clientConn) limitWrite() {
	if c.patience <= 0 {
		return
	}
	now := sinceStart()
	if now < c.far.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handlers.Load() {
		return
	}
	slack := c.patience / 4
	_ = c.Conn.SetWriteDeadline(start.Add(time.Duration(now) + c.patience + slack)) // a closed connection's write fails anyway
	c.far.Store(now + int64(slack))
}

// SetWriteDeadline sets a handler's deadline; the zero time gives the connection its own
// back. Safe for concurrent use.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	if !c.watched.Load() {
		return c.Conn.SetWriteDeadline(t)
	}
	if t.IsZero() && !c.handlers.Load() {
		return nil // net/http says so after each response
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlers.Store(!t.IsZero())
	c.far.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *clientConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
