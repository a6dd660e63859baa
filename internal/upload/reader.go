package upload

import (
	"errors"
	"io"
	"sync"
)

// MaxReplay is the size in bytes of the largest body that is retained to be sent again.
const MaxReplay = 64 << 10

var errSuperseded = errors.New("another request sends the body now")

// bodyReader is the body of one request to the upstream. It returns what is retained, and then what the client sends. Only the
// newest bodyReader of a body is in use, but a transport may still read from an older one.
//
// Of a body that may be sent again, a separate goroutine reads from the client until more has been read than is retained, so
// that a bodyReader that is closed returns at once and what arrives is available to the next one.
type bodyReader struct {
	body   *Body
	offset int  // bytes of the retained body that have been read
	direct bool // readDirect is running
	begun  bool // Read has been called
	closed bool // Close has been called after Read
}

// RetainForReplay retains up to MaxReplay bytes of the body until StopRetaining is called, so that they can be sent again.
func (b *Body) RetainForReplay() {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	b.retained.forReplay, b.retained.async = MaxReplay, true
}

// Replayable reports whether the body can be sent again. That of a request without a body always can.
func (b *Body) Replayable() bool {
	if b.source == nil {
		return true
	}
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return b.retained.forReplay > 0 && b.retained.complete()
}

// NewReader returns the body for another request; nil if the request has no body. ok is false if the body can't be sent from
// its start; the previous bodyReader stays in use then.
func (b *Body) NewReader() (reader io.ReadCloser, ok bool) {
	if b.source == nil {
		return nil, true
	}
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.complete() {
		return nil, false
	}
	next := &r.first
	if r.current != nil {
		next = new(bodyReader)
	}
	next.body = b
	r.current = next
	r.wake()
	return next, true
}

// Copy returns a copy of the body for another request that is sent at the same time; nil if the request has no body. ok is false if not all
// of the body has been read, or if it is not retained.
func (b *Body) Copy() (data []byte, ok bool) {
	if b.source == nil {
		return nil, true
	}
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forReplay == 0 || r.truncated || r.end != io.EOF {
		return nil, false
	}
	return append([]byte{}, r.data...), true // of an empty body, it is not nil
}

// CurrentReader returns the newest bodyReader.
func (b *Body) CurrentReader() io.ReadCloser {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return b.retained.current
}

// StopRetaining is called when there is a response: the body will not be sent again. What is retained for a fallback is kept.
func (b *Body) StopRetaining() {
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forReplay = 0
	if int64(len(r.data)) > r.forFallback || r.forFallback == 0 {
		r.truncated = r.truncated || r.end == nil
		r.drop()
	}
}

// Read implements io.Reader.
func (d *bodyReader) Read(p []byte) (int, error) {
	b, r := d.body, &d.body.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	d.begun = true
	for {
		switch {
		case r.current != d || d.closed:
			return 0, errSuperseded
		case b.stopped.Load():
			return 0, errStopped
		case d.offset < len(r.data):
			n := copy(p, r.data[d.offset:])
			d.offset += n
			return n, nil
		case r.end != nil:
			return 0, r.end
		case (r.truncated || r.forReplay == 0) && !r.readingAhead:
			return d.readDirect(p)
		case !r.readingAhead:
			r.readingAhead = true
			go b.readAhead()
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		<-changed
		r.mu.Lock()
	}
}

// readDirect reads from the client into p. mu is held before and after, but not during the read.
func (d *bodyReader) readDirect(p []byte) (int, error) {
	b, r := d.body, &d.body.retained
	r.drop()
	d.direct = true
	r.mu.Unlock()
	n, err := b.receiveForTransport(p)
	r.mu.Lock()
	d.direct, d.offset = false, len(r.data) // retained bytes that are in p need not be returned again
	r.drop()
	return n, err
}

// readAhead reads from the client once.
func (b *Body) readAhead() {
	buffer := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(buffer)
	_, err := b.receiveForTransport(buffer[:])
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.end == nil {
		r.end = err // errStopped, which receive has not seen
	}
	r.readingAhead = false
	r.wake()
}

const readBufferSize = 16 << 10

var readBuffers = sync.Pool{New: func() any { return new([readBufferSize]byte) }}

// Close ends a read that is in progress, because the transport may wait for it. If no read has begun, it does nothing: over
// HTTP/2, http.Transport closes the body of a request that it could not send on a connection, and then sends the same request
// with the same body on another one.
func (d *bodyReader) Close() error {
	b, r := d.body, &d.body.retained
	r.mu.Lock()
	d.closed = d.begun
	async, ended := r.async, r.end != nil
	reading := d.direct // a read by readAhead is not aborted: the next bodyReader returns its bytes
	r.wake()
	r.mu.Unlock()
	if !async && !ended {
		b.stopped.Store(true)
		reading = b.reading.Load() // after stopped is set: a read that begins later returns errStopped
	}
	if reading {
		b.config.Owner.AbortRead()
	}
	return nil
}
