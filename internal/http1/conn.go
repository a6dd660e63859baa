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

// conn is a connection to the upstream. During a request, only the goroutine of RoundTrip and then the one that reads the response
// body use it; while it is idle, it belongs to the pool.
type conn struct {
	net.Conn
	pool   *idlePool
	socket syscall.RawConn       // nil: there is no access to the descriptor
	direct bool                  // bytes can be read from and written to socket, as there is no TLS
	poll   func(fd uintptr) bool // pollOnce, allocated once
	peek   func(fd uintptr) bool // stores into quiet, allocated once
	quiet  bool                  // result of peek: there is neither an end of stream nor an unexpected byte

	reused    bool      // it has carried a request before
	idleSince time.Time // when it became idle

	ctx   context.Context // of the request
	hooks Hooks           // of the request; nil: there are none

	out      []byte // rest of the request to be sent; nil: nothing
	sent     bool   // a part of the request has been sent
	writeErr error  // why the rest of the request was not sent
	in       []byte // buffer that pollOnce reads into; nil: it must not read
	n        int    // number of bytes that pollOnce has read
	err      error  // of pollOnce

	reader  *bufio.Reader     // nil while the connection is idle
	limit   int64             // number of bytes that may still be read
	plain   bool              // the response is plain, and its body is read from reader
	eof     bool              // reading has failed or reached the end
	fields  *ConnectionFields // of the response whose header section is being read; nil: not needed
	noReuse bool              // it can't carry another request

	registration Registration // for the end of ctx
	interrupt    func()       // called at the end of ctx
}

const noLimit = math.MaxInt64

// longAgo is a deadline that ends all pending operations.
var longAgo = time.Unix(1, 0)

// readers has the bufio.Readers of connections that are not idle.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

func newConn(nc net.Conn, pool *idlePool) *conn {
	c := &conn{Conn: nc, pool: pool}
	c.socket, c.direct = rawConn(nc)
	c.poll = c.pollOnce
	c.interrupt = func() { _ = c.SetDeadline(longAgo) }
	c.peek = func(fd uintptr) bool { c.quiet = nothingToRead(fd); return true } // true: do not wait
	return c
}

// isQuiet reports whether the upstream has neither closed the connection nor sent anything on it. It does not block. TLS
// records that are no data come with the previous response.
func (c *conn) isQuiet() bool {
	if c.socket == nil {
		return true // unknown
	}
	c.quiet = false
	return c.socket.Read(c.peek) == nil && c.quiet
}

func nothingToRead(fd uintptr) bool { return isAgain(peekAt(fd)) }

// roundTrip sends text, the encoded form of r, and reads responses up to the header section of the final one.
func (c *conn) roundTrip(ctx context.Context, text []byte, r *http.Request, hooks Hooks, limit int64) (*http.Response, error) {
	c.ctx, c.hooks = ctx, hooks
	c.out, c.sent, c.writeErr = text, false, nil
	err := c.writeRequest()
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
		return nil, notSentError{fmt.Errorf("send the request: %w", err)}
	case c.writeErr != nil:
		return nil, fmt.Errorf("send the request: %w", c.writeErr)
	default:
		return nil, noResponseError{fmt.Errorf("wait for the response: %w", err)}
	}
	if hooks != nil {
		hooks.GotFirstResponseByte()
	}
	for {
		res, err := c.readHeader(r)
		switch {
		case err != nil:
			return nil, c.headerError(err)
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

// notifyGotConn calls the GotConn hook and reports whether the request is still to be sent.
func (c *conn) notifyGotConn() bool {
	if c.hooks != nil {
		c.hooks.GotConn(c.Conn)
	}
	return c.ctx.Err() == nil
}

// writeRequest sends the request. On a direct connection it also waits for the first byte of the response, so that the read
// buffer is allocated only then.
func (c *conn) writeRequest() error {
	if !c.direct && !c.notifyGotConn() {
		return c.ctx.Err()
	}
	if c.direct {
		c.err = nil
		err := c.socket.Read(c.poll)
		switch {
		case err != nil:
			return err
		case c.out == nil:
			return nil
		case c.err == errStale || !c.sent && c.ctx.Err() != nil:
			return c.err
		case c.err != nil:
			c.writeErr, c.out = c.opError("write", c.err), nil
		}
	}
	if c.out != nil {
		n, err := c.Conn.Write(c.out)
		c.sent = c.sent || n > 0
		c.writeErr, c.out = err, nil
	}
	if c.sent {
		return nil // even after an error: the upstream may have responded before it stopped reading
	}
	return c.writeErr
}

// pollOnce is called by the poller, which is armed before the call. Bytes that arrive after the request has been sent are
// therefore noticed without another read. It returns false to wait until the connection is readable.
func (c *conn) pollOnce(fd uintptr) (done bool) {
	switch {
	case c.out == nil && c.in == nil:
		return true // the response has arrived
	case c.out == nil:
		c.n, c.err = readFrom(fd, c.in)
		return !isAgain(c.err)
	}
	if c.reused && !nothingToRead(fd) {
		c.err = errStale
		return true
	}
	if !c.notifyGotConn() {
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

// Read implements io.Reader for the buffered reader.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, errHeaderTooLarge
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	n, err := c.readConn(p)
	c.limit -= int64(n)
	if c.fields != nil {
		c.fields.Scan(p[:n])
	}
	c.eof = c.eof || err != nil && !errors.Is(err, net.ErrClosed)
	return n, err
}

func (c *conn) readConn(p []byte) (int, error) {
	if !c.direct {
		return c.Conn.Read(p)
	}
	c.in, c.n, c.err = p, 0, nil
	err := c.socket.Read(c.poll)
	c.in = nil
	if err != nil {
		return 0, err
	}
	return c.n, c.opError("read", c.err)
}

// opError returns the error that package net returns for a failed system call.
func (c *conn) opError(op string, err error) error {
	errno, ok := err.(syscall.Errno)
	if !ok {
		return err
	}
	return &net.OpError{
		Op: op, Net: c.RemoteAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno),
	}
}

// readHeader reads one header section. For a plain response it does not set the body.
func (c *conn) readHeader(r *http.Request) (*http.Response, error) {
	b, _ := c.reader.Peek(c.reader.Buffered()) // can't fail
	if res, size := parseResponse(b, r); res != nil {
		_, _ = c.reader.Discard(size) // can't fail
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

// headerError adds to err, from readHeader, whether the header section was too large or incomplete.
func (c *conn) headerError(err error) error {
	switch {
	case c.limit <= 0:
		return fmt.Errorf("malformed response: %w", errHeaderTooLarge)
	case c.eof && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("malformed response: %w: %w", io.ErrUnexpectedEOF, err) // net/http calls a truncated section malformed
	}
	return fmt.Errorf("malformed response: %w", err)
}

// release ends the request. It returns the connection to the pool if it can carry another request.
func (c *conn) release() {
	if !c.registration.Stop() || c.noReuse || c.eof || c.reader.Buffered() > 0 {
		c.close()
		return
	}
	c.reader.Reset(nil)
	readers.Put(c.reader)
	c.reader, c.reused = nil, true
	c.ctx, c.hooks = nil, nil
	c.pool.put(c)
}

// close closes the connection. It does not release the reader, because a Read of the response body may be using it.
func (c *conn) close() {
	c.registration.Stop()
	_ = c.Conn.Close()
}
