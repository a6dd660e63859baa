package upload

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

var (
	errNotRetained = errors.New("the request's body is larger than any strategy wants it")
	errIncomplete  = errors.New("the request's body did not arrive in whole")
	errUploading   = errors.New("the request's body is still on its way")
)

// shortReadTimeout is how long a client may pause before its response, and after the route's timeout or during the server's shutdown.
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

// StopForFallback makes the transport read no more. It gives a read that is under way shortReadTimeout to end, so that the fallback
// gets the rest. It reports false if nothing is retained for a fallback.
func (b *Body) StopForFallback() bool {
	if b.retained.forFallback == 0 {
		return false
	}
	b.stopped.Store(true)
	b.setDeadline(time.Now().Add(shortReadTimeout))
	return true
}

// ReadRest detaches the body from the transport, reads the rest of it, and returns all of it, at most limit bytes.
func (b *Body) ReadRest(limit int64) ([]byte, error) {
	if b.source == nil {
		return nil, nil
	}
	if b.ended.Load() {
		b.setDeadline(time.Time{}) // one set by StopForFallback would look like the client's end
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

// Err returns the first error of the client's body, nil if it had none.
func (b *Body) Err() error {
	if err := b.firstError.Load(); err != nil {
		return *err
	}
	return nil
}

// Incomplete reports whether a part of the body may be left on the connection, or a read for what follows may have been made
// to fail.
func (b *Body) Incomplete() bool {
	return b.source != nil && (!b.ended.Load() || b.readFailed.Load()) // in this order, see FailRead
}

// FailRead makes a read of the client's body fail, for which the transport waits before it gives up.
func (b *Body) FailRead() {
	b.readFailed.Store(true) // first: a reader that sees the body's end must see this as well
	if b.source != nil && !b.ended.Load() {
		b.setDeadline(time.Now())
	}
}

// NoteTransportGaveUp records that the transport has given up a request whose client has no fault.
func (b *Body) NoteTransportGaveUp() {
	b.NoteStalling()
	b.transportGaveUp.Store(true)
}

// NoteStalling records whether the client is stalling now, for an error that is seen later, when it may have continued.
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

// StopTransportRead stops the transport from reading the client's body, which it may do after it has returned. A handler must not return
// while its body is read: if net/http aborts that read just when it reaches the body's end, a read for the next request begins
// without a deadline, and net/http waits for it until the client sends something or closes.
func (b *Body) StopTransportRead() {
	if b.source == nil || b.ended.Load() || b.config.Request.ProtoMajor > 1 {
		return
	}
	b.FailRead()
	b.readMu.Lock()
	b.stopped.Store(true)
	b.readMu.Unlock()
	b.setDeadline(time.Now().Add(shortReadTimeout)) // for what net/http reads on
}

// FreeBuffer returns the buffer to the pool, unless the transport may still be reading.
func (b *Body) FreeBuffer() {
	if !b.ended.Load() {
		return
	}
	b.readMu.Lock() // the transport may be in a read after the end
	defer b.readMu.Unlock()
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = nil // a Reader that is still in use reads no more
	r.free()
	r.wake()
}

// setDeadline sets the read deadline of the client's connection. Without deadlines, the client delays only itself.
func (b *Body) setDeadline(t time.Time) {
	_ = http.NewResponseController(b.config.Writer).SetReadDeadline(t)
}
