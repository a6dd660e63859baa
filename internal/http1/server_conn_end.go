package http1

import "time"

const (
	// hangupGrace is how long a request continues after its client has closed its side of the connection. The client may have
	// disconnected, or may be waiting for the response.
	hangupGrace = 50 * time.Millisecond
	// firstRequestGrace is how long a connection without a request stays open when the server shuts down: its client may just
	// have connected, and its first request may be on the way.
	firstRequestGrace = time.Second
)

// abort ends the connection and then its request; in the other order a response could still be sent. It does not close
// the connection, because that would wait for a running callback of the poller. It is safe for concurrent use.
func (c *serverConn) abort() {
	_ = c.socket.Control(shutdown) // fails only on a closed connection
	if ctx := c.current.Load(); ctx != nil {
		ctx.cancel()
	}
}

// peerClosed is called by the hangup monitor's goroutine when the client has closed its side.
func (c *serverConn) peerClosed() {
	c.peerDone.Store(true)
	if request := c.current.Load(); request != nil {
		c.cancelAfterGrace(request)
	} else if c.atEOF() {
		c.interruptRead() // a request that starts now checks peerDone
	}
}

// cancelAfterGrace cancels a request after hangupGrace, unless the client has sent another request.
func (c *serverConn) cancelAfterGrace(request *requestContext) {
	time.AfterFunc(hangupGrace, func() {
		if c.atEOF() {
			request.cancel() // no effect if the response has been sent
		}
	})
}

// atEOF reports whether the end of the client's stream is the next thing to read. It is false if another request precedes
// it. It is safe for concurrent use.
func (c *serverConn) atEOF() bool {
	atEOF := false
	_ = c.socket.Control(func(fd uintptr) { // fails only on a closed connection
		err := peekAt(fd)
		atEOF = err != nil && !isAgain(err)
	})
	return atEOF
}

// endIdle ends the connection if it is waiting for a request, or after firstRequestGrace if that is the first one. It is safe for
// concurrent use.
func (c *serverConn) endIdle() {
	if c.served.Load() {
		c.interruptRead()
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(firstRequestGrace))
}

// interruptRead ends the connection if it is waiting for a request. It is safe for concurrent use.
func (c *serverConn) interruptRead() { _ = c.SetReadDeadline(longAgo) }
