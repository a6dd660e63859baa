package upload

import (
	"errors"
	"fmt"
	"io"
	"time"
)

var (
	errNotRetained = errors.New("the request's body is larger than what is retained for fallbacks")
	errIncomplete  = errors.New("the request's body ended early or was too slow")
	errUploading   = errors.New("the request's body is still being received")
)

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
		return nil, errLarger(limit)
	}
	return r.data, nil
}

func errLarger(limit int64) error {
	return fmt.Errorf("the request's body is larger than %d bytes", limit)
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

// ReadRest calls StopForFallback, reads the rest of the body, and returns all of it. More than limit bytes are an error, which is
// returned without waiting for the rest; so is a body of unknown length that is being received if limit is 0, which means that no
// content is used.
func (b *Body) ReadRest(limit int64) ([]byte, error) {
	switch {
	case b.source == nil:
		return nil, nil
	case b.ended.Load():
		b.setDeadline(time.Time{}) // after one set by StopForFallback, net/http would take the client for disconnected
		return b.Complete(limit)
	case b.exceeds(limit):
		return nil, errLarger(limit)
	case limit == 0:
		return nil, errUploading
	case !b.StopForFallback():
		return nil, errNotRetained
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	buffer := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(buffer)
	for start := time.Now(); !b.ended.Load(); {
		if b.readFailed.Load() || b.Err() != nil || b.isTruncated() || time.Since(start) > restTimeout {
			return nil, errIncomplete
		}
		if b.exceeds(limit) {
			return nil, errLarger(limit)
		}
		b.setDeadline(time.Now().Add(shortReadTimeout))
		if _, err := b.receive(buffer[:]); err != nil && err != io.EOF {
			return nil, errIncomplete
		}
	}
	b.setDeadline(time.Time{})
	return b.Complete(limit)
}

// exceeds reports whether the body is known to have more than limit bytes.
func (b *Body) exceeds(limit int64) bool { return b.size > limit || b.read.Load() > limit }

func (b *Body) isTruncated() bool {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return b.retained.truncated
}
