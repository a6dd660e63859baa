package upload

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

var (
	errNotRetained = errors.New("the request's body is larger than what is retained for fallbacks")
	errIncomplete  = errors.New("the request's body did not arrive completely")
	errUploading   = errors.New("the request's body has not arrived completely")
)

// shortReadTimeout limits each read from a client that has no response yet, or after the route's timeout, or during the server's
// shutdown.
const shortReadTimeout = time.Second

// restTimeout limits how long a fallback that uses the body waits for the rest of it, while the client keeps sending.
const restTimeout = 5 * time.Second

// RetainForFallback retains a body of up to limit bytes for the fallback. It is called before the first read.
func (b *Body) RetainForFallback(limit int64) {
	if limit > 0 && b.size <= limit {
		b.retained.forFallback = limit
	}
}

// Complete returns the body if all of it has been read, and is at most limit bytes long.
func (b *Body) Complete(limit int64) ([]byte, error) {
	switch {
	case b.source == nil:
		return nil, nil
	case !b.ended.Load():
		return nil, errUploading
	}
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.forFallback == 0 || r.truncated || int64(len(r.data)) > r.forFallback:
		return nil, errNotRetained
	case int64(len(r.data)) > limit:
		return nil, fmt.Errorf("the request's body is larger than %d bytes", limit)
	}
	return r.data, nil
}

// StopForFallback makes transports read no more of the body. A read that is in progress may take shortReadTimeout, so that what
// arrives until then is retained for the fallback. It returns false and does nothing if nothing is retained for a fallback.
func (b *Body) StopForFallback() bool {
	if b.retained.forFallback == 0 {
		return false
	}
	b.stopped.Store(true)
	b.setDeadline(time.Now().Add(shortReadTimeout))
	return true
}

// ReadRest calls StopForFallback, reads the rest of the body, and returns all of it. More than limit bytes are an error.
func (b *Body) ReadRest(limit int64) ([]byte, error) {
	if b.source == nil {
		return nil, nil
	}
	if b.ended.Load() {
		b.setDeadline(time.Time{}) // after one set by StopForFallback, net/http would take the client for disconnected
		return b.Complete(limit)
	}
	if !b.StopForFallback() {
		return nil, errNotRetained
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	buffer := pullBuffers.Get().(*[pullBuffer]byte)
	defer pullBuffers.Put(buffer)
	for start := time.Now(); !b.ended.Load(); {
		if b.readFailed.Load() || b.Err() != nil || b.isTruncated() || time.Since(start) > restTimeout {
			return nil, errIncomplete
		}
		b.setDeadline(time.Now().Add(shortReadTimeout))
		if _, err := b.receive(buffer[:]); err != nil && err != io.EOF {
			return nil, errIncomplete
		}
	}
	b.setDeadline(time.Time{})
	return b.Complete(limit)
}

func (b *Body) isTruncated() bool {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return b.retained.truncated
}

// Err returns the first error of reading from the client, or nil. Errors that the proxy itself caused do not count.
func (b *Body) Err() error {
	if err := b.firstError.Load(); err != nil {
		return *err
	}
	return nil
}

// Incomplete reports whether part of the body may be unread on the connection, or whether FailRead may have failed a read of the
// next request. In both cases the connection cannot be reused.
func (b *Body) Incomplete() bool {
	return b.source != nil && (!b.ended.Load() || b.readFailed.Load()) // in this order, see FailRead
}

// FailRead makes a read from the client that is in progress fail: a transport that gives up a request waits for that read. The
// connection cannot be reused then.
func (b *Body) FailRead() {
	b.readFailed.Store(true) // before ended is read, see Incomplete
	if b.source != nil && !b.ended.Load() {
		b.setDeadline(time.Now())
	}
}

// NoteTransportGaveUp records that a transport has closed the body during a read, although nothing was wrong with the client.
// Errors of the client that are seen later may be consequences of that.
func (b *Body) NoteTransportGaveUp() {
	b.NoteStalling()
	b.transportGaveUp.Store(true)
}

// NoteStalling records whether the client is stalling now, and returns it. An error may be seen later, when the client continues.
func (b *Body) NoteStalling() (stalling bool) {
	if stalling = b.IsStalling(); stalling {
		b.wasStalling.Store(true)
	}
	return stalling
}

// WasStalling reports whether the client was stalling at an earlier call of NoteStalling or NoteTransportGaveUp.
func (b *Body) WasStalling() bool { return b.wasStalling.Load() }

// TransportGaveUp reports whether NoteTransportGaveUp has been called.
func (b *Body) TransportGaveUp() bool { return b.transportGaveUp.Load() }

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

// FreeBuffer returns the buffer to its pool, unless a transport may still be reading.
func (b *Body) FreeBuffer() {
	if !b.ended.Load() {
		return
	}
	b.readMu.Lock() // the transport may be in a read after the end
	defer b.readMu.Unlock()
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = nil // a transport that still has the bodyReader reads no more
	r.free()
	r.wake()
}

// setDeadline sets the read deadline of the client's connection. If that is not supported, a slow client delays only its own
// request.
func (b *Body) setDeadline(t time.Time) {
	_ = http.NewResponseController(b.config.Writer).SetReadDeadline(t)
}
