package httpserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a client's connection. While a server uses it for HTTP/1, it does what net/http's server does not: it detects
// requests with ambiguous framing, it replaces net/http's own error responses with problem details, and it limits how long
// a write may block. HTTP/2 and tunnels pass through it unchanged.
//
// Its flags describe the connection and the current request:
//
//	flag                 set and cleared by                                   read by
//	isHTTP1              connContext; connStateChanged and inspect clear it   Read, Write, SetWriteDeadline, handler
//	handlerRunning       handler; connStateChanged and handOff clear it       Write
//	http10Responding     handler                                              Close
//	sawTransferEncoding  inspect; never cleared                               handler
//	ambiguous            inspect; never cleared                               handler
//	bodyArriving         inspect, at each read                                BodyArriving
type Conn struct {
	net.Conn
	unread           []byte        // bytes that the fast path has read before net/http's server got the connection
	isHTTP1          atomic.Bool   // true from connContext until an HTTP/2 preface or a hijack
	handlerRunning   atomic.Bool   // from the start of a handler until its response has been sent
	pending          *atomic.Int64 // has been incremented until net/http's server has read the header section of a first request; nil: not
	http10Responding atomic.Bool   // from the start of a handler for an HTTP/1.0 request until it has written its whole response

	framing             framingScanner // used by Read only; net/http never reads on two goroutines at once
	sawTransferEncoding atomic.Bool    // framing.sawTransferEncoding, for other goroutines
	ambiguous           atomic.Bool    // framing.ambiguous, for other goroutines
	bodyArriving        atomic.Bool    // !framing.afterEmptyLine, for other goroutines

	onInvalid    func(client string, status int) // called when net/http responds to an invalid request
	writeTimeout time.Duration                   // 0: a write may block for ever

	renewAfter atomic.Int64 // the write deadline needs no renewal before this time on the clock of monotonicNow
	mu         sync.Mutex   // held while the write deadline, renewAfter and handlerSet are changed together
	handlerSet atomic.Bool  // the write deadline was set by a handler
}

type connKey struct{}

// ConnOf returns the connection of a request, whose context is ctx. It reports false if the
// listener was not made by Listen.
func ConnOf(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	return c, ok
}

// connContext prepares a connection for a server and returns the context of its requests.
func connContext(ctx context.Context, nc net.Conn, writeTimeout time.Duration, onInvalid func(client string, status int)) context.Context {
	c, ok := nc.(*Conn)
	if !ok {
		return ctx // not from a listener of this package
	}
	c.writeTimeout, c.onInvalid = writeTimeout, onInvalid
	c.isHTTP1.Store(true)
	return context.WithValue(ctx, connKey{}, c)
}

// connStateChanged is the ConnState hook of net/http's server.
func connStateChanged(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*Conn)
	if !ok {
		return
	}
	if state != http.StateNew && c.pending != nil {
		c.pending.Add(-1)
		c.pending = nil
	}
	switch state {
	case http.StateIdle: // the response has been sent
		c.handlerRunning.Store(false)
	case http.StateHijacked:
		c.isHTTP1.Store(false)
		_ = c.Conn.SetWriteDeadline(time.Time{}) // the new owner sets its own deadlines
	}
}

// NetConn returns the underlying connection.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// BodyArriving reports whether net/http's server has read bytes beyond the header section of the current request, so that
// a part of its body can be read without waiting. It is false as well if those bytes end with an empty line, because they are not
// parsed. It is safe for concurrent use.
func (c *Conn) BodyArriving() bool { return c.bodyArriving.Load() }

// Read reads from the client and inspects the request framing.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if n > 0 && c.isHTTP1.Load() {
		c.inspect(p[:n])
	}
	return n, err
}

func (c *Conn) read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *Conn) inspect(p []byte) {
	c.framing.scan(p)
	c.bodyArriving.Store(!c.framing.afterEmptyLine)
	switch {
	case c.framing.isHTTP2():
		c.isHTTP1.Store(false)
	case c.framing.ambiguous:
		c.ambiguous.Store(true)
		fallthrough
	case c.framing.sawTransferEncoding:
		c.sawTransferEncoding.Store(true)
	}
}

// Write writes to the client, and replaces an error response of net/http's own with a problem.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.isHTTP1.Load() {
		return c.Conn.Write(p)
	}
	c.renewWriteDeadline()
	if !c.handlerRunning.Load() { // net/http itself responds, with a single write
		if replacement, status := replaceErrorResponse(p); replacement != nil {
			c.onInvalid(c.RemoteAddr().String(), status)
			if _, err := c.Conn.Write(replacement); err != nil {
				return 0, err
			}
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

var start = time.Now()

// monotonicNow returns the nanoseconds since the process started.
func monotonicNow() int64 { return int64(time.Since(start)) }

// renewWriteDeadline moves the write deadline to at least writeTimeout from now, unless a handler has set one. To save
// system calls it sets the deadline a little later, and not again until that margin is used up.
func (c *Conn) renewWriteDeadline() {
	if c.writeTimeout <= 0 {
		return
	}
	now := monotonicNow()
	if now < c.renewAfter.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handlerSet.Load() {
		return
	}
	margin := c.writeTimeout / 4
	_ = c.Conn.SetWriteDeadline(start.Add(time.Duration(now) + c.writeTimeout + margin)) // on a closed connection the write fails
	c.renewAfter.Store(now + int64(margin))
}

// SetWriteDeadline sets a handler's deadline. The zero time restores the connection's own. It is safe for concurrent use.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.isHTTP1.Load() {
		return c.Conn.SetWriteDeadline(t)
	}
	if t.IsZero() && !c.handlerSet.Load() {
		return nil // net/http clears the deadline after each response
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlerSet.Store(!t.IsZero())
	c.renewAfter.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// CloseWrite closes the writing side of the connection.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// Close closes the connection. A response to HTTP/1.0 may end where the connection closes, so an incomplete one is
// reset: the client would take an orderly close for the end of the response.
func (c *Conn) Close() error {
	if c.http10Responding.Load() {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails only on a closed connection
		}
	}
	return c.Conn.Close()
}
