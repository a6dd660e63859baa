package http1

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// readSize is the number of bytes read at once, and the maximum size of a plain request.
	readSize = 16 << 10
	// bodyTimeout limits the wait for the rest of a request whose header section has arrived. A slower request is not plain.
	bodyTimeout = 50 * time.Millisecond
)

// serverConn is a client's connection. Only the goroutine that serves it uses its fields, except for current, peerDone and served.
type serverConn struct {
	net.Conn
	server   *Server
	socket   syscall.RawConn
	fd       int             // descriptor of socket
	context  context.Context // parent of the requests' contexts
	remote   string
	current  atomic.Pointer[requestContext] // of the request being served
	peerDone atomic.Bool                    // the client has closed its side
	served   atomic.Bool                    // at least one request has been served
	lastRead bool                           // the server shuts down, and the connection must not wait for a request any more

	in          *[readSize]byte // read buffer; nil: there are no unread bytes
	n           int             // number of bytes in the buffer that belong to a request not yet served
	size        int             // size of that request; 0: it is not known yet
	emptyBytes  int             // number of bytes of empty lines since the last request
	readTimeout time.Duration   // for which the read deadline was set
	renewAfter  time.Time       // the read deadline needs no renewal before this time
}

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// newServerConn returns nil if c has no usable descriptor.
func newServerConn(s *Server, c net.Conn) *serverConn {
	raw, direct := rawConn(c)
	if !direct {
		return nil
	}
	n := &serverConn{Conn: c, server: s, socket: raw, remote: c.RemoteAddr().String()}
	n.context = context.Background()
	if s.config.ConnContext != nil {
		n.context = s.config.ConnContext(n.context, c)
	}
	return n
}

// serve serves requests until one is not plain or the connection ends.
func (c *serverConn) serve() {
	err := c.socket.Read(c.serveRequests)
	if err != nil && c.server.shuttingDown.Load() {
		c.lastRead = true
		_ = c.SetReadDeadline(time.Time{}) // on a closed connection the read fails
		_ = c.socket.Read(c.serveRequests) // serve a request that has already arrived
	}
	c.server.unregister(c)
	if c.n == 0 {
		_ = c.Close()
		return
	}
	c.server.hangups.remove(c.fd)
	unread := bytes.Clone(c.in[:c.n])
	c.releaseBuffer()
	_ = c.SetReadDeadline(time.Time{})
	c.server.config.HandOff(c.Conn, unread)
}

// serveRequests serves all requests that have arrived. It reports true when the connection is finished, and false to be
// called again by the poller when there is more to read.
//
// The poller is armed before serveRequests runs, so bytes that arrive while a request is served are noticed without another
// read. The only exception is an end of stream that arrives together with a request: the hangup monitor reports it.
func (c *serverConn) serveRequests(fd uintptr) (done bool) {
	for {
		if c.in == nil {
			c.in = readBuffers.Get().(*[readSize]byte)
		}
		n, err := readFrom(fd, c.in[c.n:])
		switch {
		case err == nil:
		case c.n > 0: // one limit for the rest of the request, in however many pieces it arrives
			return !isAgain(err) || c.readTimeout != bodyTimeout && !c.renewReadDeadline(bodyTimeout)
		default:
			c.releaseBuffer()
			return !isAgain(err) || !c.renewReadDeadline(c.idleTimeout())
		}
		full := c.n+n == readSize
		if c.n += n; c.n < c.size {
			continue
		}
		if c.size == 0 && c.skipEmptyLines() {
			continue
		}
		w := newResponse(c)
		r := emptyRequest.WithContext(&w.context)
		if c.size = parseRequest(r, c.in[:c.n]); c.size > 0 {
			c.emptyBytes = 0
		}
		switch {
		case c.size > c.n:
			continue
		case c.size != c.n && !c.trimEmptyLines():
			return true
		}
		if !c.handleRequest(w, r) || !c.flush(fd, w.out) {
			return true
		}
		if !full && c.renewReadDeadline(c.idleTimeout()) && !c.peerDone.Load() { // there were no more bytes; check peerDone last, as peerClosed sets a deadline too
			return false
		}
	}
}

// maxEmptyBytes limits the empty lines before a request line to as many bytes as net/http's server accepts.
const maxEmptyBytes = len("\r\n\r\n")

// skipEmptyLines removes empty lines before a request, if another request came first: a client may send one after the body of a
// request (RFC 9112, section 2.2). It reports whether the buffer is empty then.
func (c *serverConn) skipEmptyLines() (all bool) {
	n := 0
	for c.served.Load() && n < c.n && c.emptyBytes < maxEmptyBytes && isLineEnd(c.in[n]) {
		n++
		c.emptyBytes++
	}
	if n > 0 {
		c.n = copy(c.in[:], c.in[n:c.n])
	}
	return c.n == 0
}

// trimEmptyLines removes empty lines after a complete request. It reports false if anything else follows the request.
func (c *serverConn) trimEmptyLines() bool {
	if c.size == 0 || c.n < c.size || c.n-c.size > maxEmptyBytes {
		return false
	}
	for _, b := range c.in[c.size:c.n] {
		if !isLineEnd(b) {
			return false
		}
	}
	c.emptyBytes, c.n = c.n-c.size, c.size
	return true
}

func isLineEnd(b byte) bool { return b == '\r' || b == '\n' }

// emptyRequest is copied for each request, so that setting the context needs no second copy.
var emptyRequest = new(http.Request)

// handleRequest calls the handler and completes the response. What remains to be sent is in w.out. It reports whether the
// connection can carry another request.
func (c *serverConn) handleRequest(w *response, r *http.Request) bool {
	r.RemoteAddr = c.remote
	w.isHead = r.Method == http.MethodHead
	c.current.Store(&w.context)
	if c.peerDone.Load() {
		c.cancelAfterGrace(&w.context)
	}
	c.n, c.size = 0, 0
	if r.ContentLength == 0 {
		c.releaseBuffer() // otherwise the body is in it
	}
	defer func() {
		c.served.Store(true)
		c.current.Store(nil)
		w.context.cancel()
	}()
	if !c.callHandler(w, r) {
		w.close()
		return false
	}
	c.releaseBuffer()
	return w.finish()
}

// callHandler reports whether the handler returned without a panic.
func (c *serverConn) callHandler(w *response, r *http.Request) (done bool) {
	defer func() {
		if done {
			return
		}
		if p := recover(); p != http.ErrAbortHandler && c.server.config.OnPanic != nil {
			c.server.config.OnPanic(p)
		}
	}()
	c.server.config.Handler.ServeHTTP(w, r)
	return true
}

func (c *serverConn) releaseBuffer() {
	if c.in != nil {
		readBuffers.Put(c.in)
		c.in = nil
	}
}

// flush sends the rest of a response and releases its buffer. It blocks while the client does not read. It reports whether all
// was sent.
func (c *serverConn) flush(fd uintptr, out *[]byte) bool {
	defer putWriteBuffer(out)
	n, err := writeTo(fd, *out)
	if rest := (*out)[n:]; len(rest) > 0 && (err == nil || isAgain(err)) {
		_, err = c.Write(rest)
	}
	return err == nil
}

// idleTimeout returns the limit for the wait for the next request.
func (c *serverConn) idleTimeout() time.Duration {
	if !c.served.Load() {
		return c.server.config.FirstRequestTimeout
	}
	return c.server.config.IdleTimeout
}

// renewReadDeadline limits the next read to timeout or slightly more; 0 is no limit. It reports false if the server
// shuts down and the connection must not wait for another request. It may wait for its first request, for firstRequestGrace.
func (c *serverConn) renewReadDeadline(timeout time.Duration) bool {
	if now := time.Now(); timeout != c.readTimeout || timeout > 0 && now.After(c.renewAfter) {
		deadline, margin := time.Time{}, min(timeout/16, time.Second)
		if timeout > 0 {
			deadline = now.Add(timeout + margin)
		}
		_ = c.SetReadDeadline(deadline) // on a closed connection the read fails
		c.readTimeout, c.renewAfter = timeout, now.Add(margin)
	}
	if !c.server.shuttingDown.Load() { // check last, as Shutdown sets a deadline too
		return true
	}
	if c.served.Load() || c.lastRead || c.n > 0 {
		return false
	}
	c.endIdle()
	return true
}
