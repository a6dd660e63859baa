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
	// readSize is how much is read at once: the most that a plain request can be.
	readSize = 16 << 10
	// bodyPatience is how long the rest of a request whose header section has come is awaited before it counts as not plain.
	bodyPatience = 50 * time.Millisecond
	// answerPatience is how long the request of a client that will say no more is still worked on: it may have left, or wait for
	// its answer.
	answerPatience = 50 * time.Millisecond
)

// serverConn is a client's connection. It belongs to the goroutine that serves it, save for what says otherwise.
type serverConn struct {
	net.Conn
	server  *Server
	socket  syscall.RawConn
	fd      int             // socket's descriptor
	context context.Context // its values
	remote  string
	current atomic.Pointer[requestContext] // of the request that is answered
	over    atomic.Bool                    // the client will say no more
	served  bool                           // a request

	in      *[readSize]byte // what has been read; nil: nothing
	n       int             // bytes of in that are of a request which is not answered
	size    int             // of that request; 0: it is not known
	blank   int             // bytes of empty lines that have come since the last request
	timeout time.Duration   // of the read deadline
	far     time.Time       // until then it needs no setting
}

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// newServerConn returns nil if c has no descriptor to be used.
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

// serve answers requests until one is not plain, or the connection ends.
func (c *serverConn) serve() {
	err := c.socket.Read(c.converse)
	if err != nil && c.server.draining.Load() {
		_ = c.SetReadDeadline(time.Time{}) // a closed connection's read fails anyway
		_ = c.socket.Read(c.converse)      // a request that has come already is still answered
	}
	c.server.forget(c)
	if c.n == 0 {
		_ = c.Close()
		return
	}
	c.server.lookout.forget(c.fd)
	given := bytes.Clone(c.in[:c.n])
	c.release()
	_ = c.SetReadDeadline(time.Time{})
	c.server.config.Fallback(c.Conn, given)
}

// converse answers requests as long as there are any, and reports whether it is done. If not, the poller has it called
// again when something has come. All of that is one visit to the poller, which forgets what came before: as what comes while
// a request is answered is noticed, there is no need to look whether anything has. Only an end that came together
// with a request is the lookout's to tell.
func (c *serverConn) converse(fd uintptr) (done bool) {
	for {
		if c.in == nil {
			c.in = readBuffers.Get().(*[readSize]byte)
		}
		n, err := readFrom(fd, c.in[c.n:])
		switch {
		case err == nil:
		case c.n > 0: // the rest of the request has the same patience, however it comes
			return !isAgain(err) || c.timeout != bodyPatience && !c.limitRead(bodyPatience)
		default:
			c.release()
			return !isAgain(err) || !c.limitRead(c.silence())
		}
		full := c.n+n == readSize
		if c.n += n; c.n < c.size {
			continue
		}
		if c.size == 0 && c.skipBlank() {
			continue
		}
		w := newResponse(c)
		r := noRequest.WithContext(&w.context)
		if c.size = parse(r, c.in[:c.n]); c.size > 0 {
			c.blank = 0
		}
		switch {
		case c.size > c.n:
			continue
		case c.size != c.n && !c.endsBlank():
			return true
		}
		if !c.answer(w, r) || !c.send(fd, w.out) {
			return true
		}
		if !full && c.limitRead(c.silence()) && !c.over.Load() { // there was no more; over last, as overhear sets a deadline as well
			return false
		}
	}
}

// maxBlank is how many bytes of empty lines may come before a request line, as with net/http's server.
const maxBlank = len("\r\n\r\n")

// skipBlank removes the empty lines with which in begins if a request came before them: a client may send one behind a request's
// body (RFC 9112, section 2.2). It reports whether nothing else has come.
func (c *serverConn) skipBlank() (all bool) {
	n := 0
	for c.served && n < c.n && c.blank < maxBlank && isLineEnd(c.in[n]) {
		n++
		c.blank++
	}
	if n > 0 {
		c.n = copy(c.in[:], c.in[n:c.n])
	}
	return c.n == 0
}

// endsBlank removes what has come behind a whole request if that is nothing but empty lines, and reports whether it is.
func (c *serverConn) endsBlank() bool {
	if c.size == 0 || c.n < c.size || c.n-c.size > maxBlank {
		return false
	}
	for _, b := range c.in[c.size:c.n] {
		if !isLineEnd(b) {
			return false
		}
	}
	c.blank, c.n = c.n-c.size, c.size
	return true
}

func isLineEnd(b byte) bool { return b == '\r' || b == '\n' }

// noRequest is what requests are made from, which have their contexts from the beginning then.
var noRequest = new(http.Request)

// answer has r answered by w, save for what w still has to be sent, and reports whether there may be another request.
func (c *serverConn) answer(w *response, r *http.Request) bool {
	r.RemoteAddr = c.remote
	w.head = r.Method == http.MethodHead
	c.current.Store(&w.context)
	if c.over.Load() {
		c.endLater(&w.context)
	}
	c.n, c.size = 0, 0
	if r.ContentLength == 0 {
		c.release() // nothing of the request stands there
	}
	defer func() {
		c.served = true
		c.current.Store(nil)
		w.context.cancel()
	}()
	if !c.handle(w, r) {
		w.abandon()
		return false
	}
	c.release()
	return w.finish()
}

// handle has w written, and reports whether the handler came to its end.
func (c *serverConn) handle(w *response, r *http.Request) (done bool) {
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

func (c *serverConn) release() {
	if c.in != nil {
		readBuffers.Put(c.in)
		c.in = nil
	}
}

// send sends out, which is what is left of a response, however long the client takes, and reports whether it could.
func (c *serverConn) send(fd uintptr, out *[]byte) bool {
	defer release(out)
	n, err := writeTo(fd, *out)
	if rest := (*out)[n:]; len(rest) > 0 && (err == nil || isAgain(err)) {
		_, err = c.Write(rest)
	}
	return err == nil
}

// silence is how long the client may say nothing.
func (c *serverConn) silence() time.Duration {
	if !c.served {
		return c.server.config.FirstRequestTimeout
	}
	return c.server.config.IdleTimeout
}

// limitRead gives the read that follows timeout, or a little more; 0 is no limit. It reports whether there may be one that waits.
func (c *serverConn) limitRead(timeout time.Duration) bool {
	if now := time.Now(); timeout != c.timeout || timeout > 0 && now.After(c.far) {
		deadline, slack := time.Time{}, min(timeout/16, time.Second)
		if timeout > 0 {
			deadline = now.Add(timeout + slack)
		}
		_ = c.SetReadDeadline(deadline) // a closed connection's read fails anyway
		c.timeout, c.far = timeout, now.Add(slack)
	}
	return !c.server.draining.Load() // last, as Shutdown sets a deadline as well
}

// cut ends the connection, and then its request, which could otherwise still be answered. To close it would be to wait for
// whoever is in the poller. Safe for concurrent use.
func (c *serverConn) cut() {
	_ = c.socket.Control(shutdown) // a closed connection has been cut
	if ctx := c.current.Load(); ctx != nil {
		ctx.cancel()
	}
}

// overhear is told, by the lookout, that the client will say no more.
func (c *serverConn) overhear() {
	c.over.Store(true)
	if request := c.current.Load(); request != nil {
		c.endLater(request)
	} else if c.isLeft() {
		c.endIdle() // a request that begins now sees that it is over
	}
}

// endLater ends a request whose client will say no more.
func (c *serverConn) endLater(request *requestContext) {
	time.AfterFunc(answerPatience, func() {
		if c.isLeft() {
			request.cancel() // which does nothing if it has been answered
		}
	})
}

// isLeft reports whether nothing more will come from the client: not if there is another request, behind which nothing can be
// seen. Safe for concurrent use.
func (c *serverConn) isLeft() bool {
	left := false
	_ = c.socket.Control(func(fd uintptr) { // a closed connection has been left
		err := peekAt(fd)
		left = err != nil && !isAgain(err)
	})
	return left
}

// endIdle makes the connection end if it waits for a request. Safe for concurrent use.
func (c *serverConn) endIdle() { _ = c.SetReadDeadline(longAgo) }
