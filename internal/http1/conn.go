package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is a connection to the upstream. It belongs to the goroutine that asks, and while it is idle to idle.
type conn struct {
	net.Conn
	home   *idle
	socket syscall.RawConn       // nil: it can't be looked at
	direct bool                  // socket sends what is to be said as it is
	step   func(fd uintptr) bool // say's and receive's
	look   func(fd uintptr) bool // isQuiet's
	quiet  bool                  // what peek has found: neither an end nor anything that nobody has asked for

	reused bool      // it has carried a request before
	since  time.Time // when it became idle

	ctx   context.Context // the request's
	hooks Hooks           // likewise; nil: nobody asks

	out    []byte // what is left to be sent of the request; nil: nothing
	sent   bool   // something of the request has been sent
	broken error  // why the rest was not
	in     []byte // what step reads into; nil: it is not to read
	n      int    // bytes that it has read
	err    error  // why it has not

	reader *bufio.Reader     // nil while it is idle
	limit  int64             // bytes that may still be read
	plain  bool              // the response is, and its body is read from reader
	ended  bool              // the upstream has closed it
	fields *ConnectionFields // of the response whose header section is being read; nil: none is needed
	spent  bool              // it can't carry another request

	watch   Registration // for the end of the request's context
	hurried func()       // what it runs
}

const noLimit = math.MaxInt64

func newConn(c net.Conn, home *idle) *conn {
	n := &conn{Conn: c, home: home}
	n.socket, n.direct = rawConn(c)
	n.step, n.hurried = n.turn, n.hurry
	n.look = func(fd uintptr) bool { n.quiet = n.peek(fd); return true } // without waiting
	return n
}

// hurry is run when the request's context ends: whatever is waited for ends now.
func (c *conn) hurry() { _ = c.SetDeadline(longAgo) }

// longAgo is the deadline of what is to end now.
var longAgo = time.Unix(1, 0)

// isQuiet reports whether the upstream has neither closed the connection nor said anything on it. It doesn't wait. What
// TLS says of its own accord, it says with the response before.
func (c *conn) isQuiet() bool {
	if c.socket == nil {
		return true // it can't be known
	}
	c.quiet = false
	return c.socket.Read(c.look) == nil && c.quiet
}

// peek reports whether there is nothing to be read.
func (c *conn) peek(fd uintptr) bool { return isAgain(peekAt(fd)) }

// Read is for reader.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, ErrHeaderTooLarge
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	n, err := c.receive(p)
	c.limit -= int64(n)
	if c.fields != nil {
		c.fields.Scan(p[:n])
	}
	c.ended = c.ended || err != nil && !errors.Is(err, net.ErrClosed)
	return n, err
}

// introduce tells of the connection, and reports whether the request is still to be sent.
func (c *conn) introduce() bool {
	if c.hooks != nil {
		c.hooks.GotConn(c.Conn)
	}
	return c.ctx.Err() == nil
}

// say sends the request and waits until something can be read, so that nobody holds memory for that meanwhile. Where step
// can't be used it does not wait.
func (c *conn) say() error {
	if !c.direct && !c.introduce() {
		return c.ctx.Err()
	}
	if c.direct {
		c.err = nil
		err := c.socket.Read(c.step)
		switch {
		case err != nil:
			return err
		case c.out == nil:
			return nil
		case c.err == errStale || !c.sent && c.ctx.Err() != nil:
			return c.err
		case c.err != nil:
			c.broken, c.out = c.explainCall("write", c.err), nil
		}
	}
	if c.out != nil {
		n, err := c.Conn.Write(c.out)
		c.sent = c.sent || n > 0
		c.broken, c.out = err, nil
	}
	if c.sent {
		return nil // also if the request broke off: the upstream may have answered before it stopped listening
	}
	return c.broken
}

// receive reads what comes next.
func (c *conn) receive(p []byte) (int, error) {
	if !c.direct {
		return c.Conn.Read(p)
	}
	c.in, c.n, c.err = p, 0, nil
	err := c.socket.Read(c.step)
	c.in = nil
	if err != nil {
		return 0, err
	}
	return c.n, c.explainCall("read", c.err)
}

// turn is run by the poller, which is armed before: what comes after the request is sent is noticed, and there is no
// need to try whether it has come already.
func (c *conn) turn(fd uintptr) bool {
	switch {
	case c.out == nil && c.in == nil:
		return true // something has come
	case c.out == nil:
		c.n, c.err = readFrom(fd, c.in)
		return !isAgain(c.err)
	}
	if c.reused && !c.peek(fd) {
		c.err = errStale
		return true
	}
	if !c.introduce() {
		c.err = c.ctx.Err()
		return true
	}
	n, err := writeTo(fd, c.out)
	c.sent = c.sent || n > 0
	if n == len(c.out) {
		c.out = nil
		return false
	}
	c.out = c.out[n:]
	if !isAgain(err) {
		c.err = err
	}
	return true
}

// explainCall says what package net would of a system call's error.
func (c *conn) explainCall(call string, err error) error {
	errno, ok := err.(syscall.Errno)
	if !ok {
		return err
	}
	return &net.OpError{
		Op: call, Net: c.RemoteAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, errno),
	}
}

// ask sends text, which is r, and reads responses until the final one's header section.
func (c *conn) ask(ctx context.Context, text []byte, r *http.Request, hooks Hooks, limit int64) (*http.Response, error) {
	c.ctx, c.hooks = ctx, hooks
	c.out, c.sent, c.broken = text, false, nil
	err := c.say()
	if err == nil {
		c.reader = readers.Get().(*bufio.Reader)
		c.reader.Reset(c)
		c.limit = limit
		_, err = c.reader.Peek(1)
	}
	c.out = nil
	switch {
	case err == nil:
	case err == errStale:
		return nil, err
	case !c.sent:
		return nil, unsentError{fmt.Errorf("send the request: %w", err)}
	case c.broken != nil:
		return nil, fmt.Errorf("send the request: %w", c.broken)
	default:
		return nil, unheededError{fmt.Errorf("wait for the response: %w", err)}
	}
	if hooks != nil {
		hooks.GotFirstResponseByte()
	}
	for {
		res, err := c.read(r)
		switch {
		case err != nil:
			return nil, c.explain(err)
		case res.StatusCode < 100 || res.StatusCode > 199 || res.StatusCode == http.StatusSwitchingProtocols:
			return res, nil
		case hooks == nil:
			continue
		}
		if err := hooks.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
			return nil, err
		}
		c.limit = limit
	}
}

// read reads one header section. The body of a plain response is left to body.
func (c *conn) read(r *http.Request) (*http.Response, error) {
	b, _ := c.reader.Peek(c.reader.Buffered()) // is there
	if res, size := parseResponse(b, r); res != nil {
		_, _ = c.reader.Discard(size) // likewise
		c.plain = true
		return res, nil
	}
	c.plain = false
	c.fields = new(ConnectionFields)
	c.fields.Scan(b)
	res, err := http.ReadResponse(c.reader, r)
	if err == nil {
		c.fields.Restore(res)
	}
	c.fields = nil
	return res, err
}

// explain tells what has ended a header section.
func (c *conn) explain(err error) error {
	switch {
	case c.limit <= 0:
		return fmt.Errorf("malformed response: %w", ErrHeaderTooLarge)
	case c.ended && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("malformed response: %w: %w", io.ErrUnexpectedEOF, err) // half a header section looks malformed
	}
	return fmt.Errorf("malformed response: %w", err)
}

// giveBack ends the exchange: the connection is kept if nothing is left of it.
func (c *conn) giveBack() {
	if !c.watch.Stop() || c.spent || c.ended || c.reader.Buffered() > 0 {
		c.close()
		return
	}
	c.reader.Reset(nil)
	readers.Put(c.reader)
	c.reader, c.reused = nil, true
	c.ctx, c.hooks = nil, nil
	c.home.put(c)
}

// close ends the connection. Its reader may still be in use by whoever reads the response's body.
func (c *conn) close() {
	c.watch.Stop()
	_ = c.Conn.Close()
}

// readers lends readers, which an idle connection has no need of.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
