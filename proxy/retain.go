package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// retained is what has been read of a client's body, as long as it is not too large for the route's fallback. The zero value
// retains nothing.
type retained struct {
	limit int64
	data  []byte
	lent  *[smallBody]byte // the buffer of data, if it is from the pool
	lost  bool             // more has been read than is retained
}

// retainUpTo retains a body of up to limit bytes for the fallback. It is called before the first read.
func (b *requestBody) retainUpTo(limit int64) {
	if limit > 0 && b.x.r.ContentLength <= limit {
		b.retained.limit = limit
	}
}

func (k *retained) add(p []byte) {
	switch size := len(k.data) + len(p); {
	case k.limit == 0 || k.lost:
	case int64(size) > k.limit:
		k.lost, k.data = true, nil
	case k.data == nil && size > 0 && size <= smallBody:
		k.lent = smallBodies.Get().(*[smallBody]byte)
		k.data = append(k.lent[:0], p...)
	default:
		k.data = append(k.data, p...) // a body that outgrows the pooled buffer is copied
	}
}

// releaseBuffer returns the buffer to the pool, unless the transport may still be reading.
func (b *requestBody) releaseBuffer() {
	if !b.ended.Load() {
		return
	}
	b.readMu.Lock() // the transport may be in a read after the end
	defer b.readMu.Unlock()
	if b.retained.lent != nil {
		smallBodies.Put(b.retained.lent)
		b.retained = retained{}
	}
}

var (
	errNotKept   = errors.New("the request's body is larger than any strategy wants it")
	errNotWhole  = errors.New("the request's body did not arrive in whole")
	errUploading = errors.New("the request's body is still on its way")
)

// complete returns the body if all of it has been read.
func (b *requestBody) complete(limit int64) ([]byte, error) {
	switch {
	case b.body == nil:
		return nil, nil
	case !b.ended.Load():
		return nil, errUploading
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	return b.retained.whole(limit)
}

func (k *retained) whole(limit int64) ([]byte, error) {
	switch {
	case k.lost || k.limit == 0:
		return nil, errNotKept
	case int64(len(k.data)) > limit:
		return nil, fmt.Errorf("the request's body is larger than %d bytes", limit)
	}
	return k.data, nil
}

// restTimeout limits how long a fallback that uses the body waits for the rest of it, while the client keeps sending.
const restTimeout = 5 * time.Second

// stopTransportRead makes the transport read no more. It gives a read that is under way lingerPause to end, so that the
// fallback gets the rest. It reports false if nothing is retained for a fallback.
func (b *requestBody) stopTransportRead() bool {
	if b.retained.limit == 0 {
		return false
	}
	b.closed.Store(true)
	_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Now().Add(lingerPause))
	return true
}

// readRest detaches the body from the transport, reads the rest of it, and returns all of it.
func (b *requestBody) readRest(limit int64) ([]byte, error) {
	if b.body == nil {
		return nil, nil
	}
	control := http.NewResponseController(b.x.w)
	if b.ended.Load() {
		_ = control.SetReadDeadline(time.Time{}) // one set by stopTransportRead would look like the client's end
		return b.complete(limit)
	}
	if !b.stopTransportRead() {
		return nil, errNotKept
	}
	b.readMu.Lock()
	defer b.readMu.Unlock()
	buffer := copyBuffers{}.Get()
	defer copyBuffers{}.Put(buffer)
	for start := time.Now(); !b.ended.Load(); {
		if b.interrupted.Load() || b.readError() != nil || b.retained.lost || time.Since(start) > restTimeout {
			return nil, errNotWhole
		}
		_ = control.SetReadDeadline(time.Now().Add(lingerPause))
		if _, err := b.receive(buffer); err != nil && err != io.EOF {
			return nil, errNotWhole
		}
	}
	_ = control.SetReadDeadline(time.Time{})
	return b.retained.whole(limit)
}
