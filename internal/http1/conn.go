package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"syscall"
	"time"
)

// conn is a connection to the upstream. It belongs to the goroutine that asks, and while it is idle to idle.
type conn struct {
	net.Conn
	home   *idle
	socket syscall.RawConn // nil: it can't be looked at
	look   func(fd uintptr) bool
	quiet  bool // what look has found: neither an end nor anything that nobody has asked for

	reused bool      // it has carried a request before
	since  time.Time // when it became idle

	reader    *bufio.Reader // nil while it is idle
	limit     int64         // bytes that may still be read
	answering bool          // something of a response has come
	ended     bool          // the upstream has closed it
	spent     bool          // it can't carry another request

	unwatch func() bool // lets the request's context go
}

const noLimit = math.MaxInt64

func newConn(c net.Conn, home *idle) *conn {
	n := &conn{Conn: c, home: home}
	n.watchSocket()
	return n
}

// hurry is run when the request's context ends: whatever is waited for ends now.
func (c *conn) hurry() { _ = c.SetDeadline(time.Unix(1, 0)) }

// Read is for reader.
func (c *conn) Read(p []byte) (int, error) {
	if c.limit <= 0 {
		return 0, ErrHeaderTooLarge
	}
	if int64(len(p)) > c.limit {
		p = p[:c.limit]
	}
	n, err := c.Conn.Read(p)
	c.limit -= int64(n)
	c.answering = c.answering || n > 0
	c.ended = c.ended || err != nil && !errors.Is(err, net.ErrClosed)
	return n, err
}

// readResponse reads responses until the final one's header section.
func (c *conn) readResponse(r *http.Request, trace *httptrace.ClientTrace, limit int64) (*http.Response, error) {
	c.reader = readers.Get().(*bufio.Reader)
	c.reader.Reset(c)
	c.limit, c.answering = limit, false
	if _, err := c.reader.Peek(1); err != nil {
		return nil, unheededError{fmt.Errorf("wait for the response: %w", err)}
	}
	if trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
	}
	for {
		res, err := http.ReadResponse(c.reader, r)
		switch {
		case err != nil:
			return nil, c.explain(err)
		case res.StatusCode < 100 || res.StatusCode > 199 || res.StatusCode == http.StatusSwitchingProtocols:
			return res, nil
		case trace.Got1xxResponse == nil:
			continue
		}
		if err := trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
			return nil, err
		}
		c.limit = limit
	}
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
	if !c.unwatch() || c.spent || c.ended || c.reader.Buffered() > 0 {
		c.close()
		return
	}
	c.reader.Reset(nil)
	readers.Put(c.reader)
	c.reader, c.unwatch, c.reused = nil, nil, true
	c.home.put(c)
}

// close ends the connection. Its reader may still be in use by whoever reads the response's body.
func (c *conn) close() {
	if c.unwatch != nil {
		c.unwatch()
	}
	_ = c.Conn.Close()
}

// readers lends readers, which an idle connection has no need of.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
