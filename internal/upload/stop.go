package upload

import (
	"net/http"
	"time"
)

// shortReadTimeout limits each read from a client that has no response yet, or after the route's timeout, or during the server's
// shutdown.
const shortReadTimeout = time.Second

// Incomplete reports whether part of the body may be unread on the connection, or whether FailRead may have failed a read of the
// next request. In both cases the connection cannot be reused.
func (b *Body) Incomplete() bool {
	return b.source != nil && (!b.ended.Load() || b.readFailed.Load()) // in this order, see FailRead
}

// FailRead makes a read from the client that is in progress fail: a transport that ends a request early waits for that read. The
// connection cannot be reused then.
func (b *Body) FailRead() {
	b.readFailed.Store(true) // before ended is read, see Incomplete
	if b.source != nil && !b.ended.Load() {
		b.setDeadline(time.Now())
	}
}

// NoteClosedDuringRead records that a transport has closed the body during a read, although the client has caused no error.
// Errors of the client that are seen later may be consequences of that.
func (b *Body) NoteClosedDuringRead() {
	b.NoteStalling()
	b.closedDuringRead.Store(true)
}

// ClosedDuringRead reports whether NoteTransportGaveUp has been called.
func (b *Body) ClosedDuringRead() bool { return b.closedDuringRead.Load() }

// StopTransportRead fails a read from the client that is in progress and makes transports read no more. A transport may read the
// body after its RoundTrip has returned, but a handler must not return while its body is read: if net/http aborts that read just
// when it reaches the body's end, a read for the next request begins without a deadline, and net/http waits for it until the
// client sends something or closes the connection.
func (b *Body) StopTransportRead() {
	if b.source == nil || b.ended.Load() || b.config.Request.ProtoMajor > 1 {
		return
	}
	b.FailRead()
	b.readMu.Lock()
	b.stopped.Store(true)
	b.readMu.Unlock()
	b.setDeadline(time.Now().Add(shortReadTimeout)) // for what net/http reads after the handler
}

// setDeadline sets the read deadline of the client's connection. If that is not supported, a slow client delays only its own
// request.
func (b *Body) setDeadline(t time.Time) {
	_ = http.NewResponseController(b.config.Writer).SetReadDeadline(t)
}
