package http1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// readSize is how much is read at once: the most that a plain request can be.
const readSize = 4 << 10

// serverConn is a client's connection. It belongs to the goroutine that serves it, save for what says otherwise.
type serverConn struct {
	net.Conn
	server  *Server
	socket  syscall.RawConn
	context context.Context // its values
	remote  string
	current atomic.Pointer[requestContext] // of the request that is answered

	step func(fd uintptr) bool // exchange's
	look func(fd uintptr)      // isLeft's
	left bool                  // what look has found; the lookout's, like look
	out  *[]byte               // what exchange is to send first; nil: nothing
	in   *[readSize]byte       // what it has read; nil: nothing
	n    int                   // bytes of in
	err  error

	timeout time.Duration // of the read deadline
	far     time.Time     // until then it needs no setting
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
	n.step = n.turn
	n.look = func(fd uintptr) {
		err := peekAt(fd)
		n.left = err != nil && !isAgain(err) // but not if it has sent another request, behind which nothing can be seen
	}
	return n
}

// serve answers requests until one is not plain, or the connection ends.
func (c *serverConn) serve() {
	given := false
	defer func() {
		c.server.forget(c)
		if !given {
			_ = c.Close()
		}
	}()
	timeout := c.server.config.FirstTimeout
	for c.exchange(timeout) {
		r := parse(c.in[:c.n])
		if r == nil {
			unread := append([]byte(nil), c.in[:c.n]...)
			c.release()
			_ = c.SetReadDeadline(time.Time{})
			given = true
			c.server.config.Rest(c.Conn, unread)
			return
		}
		if !c.answer(r) {
			return
		}
		timeout = c.server.config.IdleTimeout
	}
}

// answer has r answered, and reports whether there may be another request.
func (c *serverConn) answer(r *http.Request) bool {
	r.RemoteAddr = c.remote
	w := newResponse(c, r)
	w.context.Context = c.context
	r = r.WithContext(&w.context)
	c.current.Store(&w.context)
	c.server.lookout.begin()
	defer func() {
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
		if p := recover(); p != http.ErrAbortHandler && c.server.config.Panicked != nil {
			c.server.config.Panicked(p)
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

// exchange sends what is left of the last response and reads what comes next. It reports whether anything did.
func (c *serverConn) exchange(timeout time.Duration) bool {
	c.n, c.err = 0, nil
	for c.limitRead(timeout) {
		if err := c.socket.Read(c.step); err != nil {
			break
		}
		if c.err != nil {
			return false
		}
		if c.out == nil {
			return c.n > 0
		}
		// The client takes nothing just now.
		if !c.flush() {
			return false
		}
	}
	return c.server.draining.Load() && c.lastLook()
}

// lastLook is exchange for a server that is shutting down: a request that has come already is still answered.
func (c *serverConn) lastLook() bool {
	if c.out != nil && !c.flush() {
		return false
	}
	_ = c.SetReadDeadline(time.Time{}) // a closed connection's read fails anyway
	err := c.socket.Read(func(fd uintptr) bool { c.turn(fd); return true })
	return err == nil && c.err == nil && c.n > 0
}

// turn sends and reads as far as neither has to wait.
func (c *serverConn) turn(fd uintptr) bool {
	if c.out != nil {
		n, err := writeTo(fd, *c.out)
		if n < len(*c.out) {
			*c.out = (*c.out)[n:]
			if !isAgain(err) {
				c.err = err
			}
			return true
		}
		c.sent()
	}
	c.in = readBuffers.Get().(*[readSize]byte)
	n, err := readFrom(fd, c.in[:])
	if err == nil {
		c.n = n
		return true
	}
	c.release()
	if !isAgain(err) {
		c.err = err
		return true
	}
	return false
}

// flush sends what is left to be sent, however long the client takes, and reports whether it could.
func (c *serverConn) flush() bool {
	_, err := c.Write(*c.out)
	c.sent()
	return err == nil
}

func (c *serverConn) sent() {
	release(c.out)
	c.out = nil
}

// limitRead gives the read that follows a deadline timeout away, or a little more. It reports whether there may be one.
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

// cut ends the connection and its request. Safe for concurrent use.
func (c *serverConn) cut() {
	if ctx := c.current.Load(); ctx != nil {
		ctx.cancel()
	}
	_ = c.Close()
}

// isLeft reports whether the client has closed the connection. Safe beside all but itself.
func (c *serverConn) isLeft() bool {
	c.left = false
	return c.socket.Control(c.look) == nil && c.left
}

// endIdle makes the connection end if it waits for a request. Safe for concurrent use.
func (c *serverConn) endIdle() { _ = c.SetReadDeadline(longAgo) }
