package upload

import (
	"io"
	"sync"
)

// Sizes of the pooled buffers in bytes; a body that outgrows them is copied to one that is not pooled.
const (
	smallBuffer = 16 << 10
	largeBuffer = 64<<10 + 1
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// retained is the first bytes of a body: all that has been read, unless that is more than is wanted. The zero value retains
// nothing.
type retained struct {
	size        int64 // of the body; -1: unknown; set before the first read
	forFallback int64 // how many bytes a fallback uses; 0: none; set before the first read

	mu           sync.Mutex // guards the fields below and those of every bodyReader of the body
	forReplay    int64      // how many bytes are sent again; 0: none
	async        bool       // a separate goroutine reads from the client until more has been read than is retained
	forPrefetch  int64      // how many bytes are read before the transport reads them; 0: none
	data         []byte
	small        *[smallBuffer]byte // the buffer of data, if it is from that pool
	large        *[largeBuffer]byte
	truncated    bool          // more has been read than is retained
	end          error         // the error that ended the body; io.EOF: it is complete
	current      *bodyReader   // the one that may read
	first        bodyReader    // saves an allocation
	readingAhead bool          // readAhead is running
	changed      chan struct{} // closed at the next change; nil: no bodyReader waits
}

// add appends p, which has been read with the error err.
func (r *retained) add(p []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.end = err
	}
	limit := max(r.forFallback, r.forReplay, r.forPrefetch)
	if (r.truncated || limit == 0) && !r.readingAhead { // a bodyReader gets what readAhead reads from data only
		r.truncated = r.truncated || len(p) > 0
		return
	}
	if r.data == nil && len(p) > 0 {
		r.data = r.buffer()
	}
	r.data = append(r.data, p...)
	r.truncated = r.truncated || int64(len(r.data)) > limit
}

// complete reports whether all that has been read is retained, without an error.
func (r *retained) complete() bool { return !r.truncated && (r.end == nil || r.end == io.EOF) }

// wake makes the waiting bodyReader check for changes; mu is held.
func (r *retained) wake() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// drop frees what is retained, if it has been read and is of no further use; mu is held.
func (r *retained) drop() {
	if r.truncated && r.current != nil && r.current.offset == len(r.data) {
		r.free()
		r.current.offset = 0
	}
}

// buffer returns an empty buffer: a pooled one if the body is known to fit into it or a fallback may use it. A stream, which may
// send little for a long time, gets none.
func (r *retained) buffer() []byte {
	switch {
	case r.size >= 0 && r.size <= smallBuffer:
		r.small = smallBuffers.Get().(*[smallBuffer]byte)
		return r.small[:0]
	case r.size >= 0 || r.forFallback > 0:
		r.large = largeBuffers.Get().(*[largeBuffer]byte)
		return r.large[:0]
	}
	return nil
}

// free returns the pooled buffers, which nothing uses any more; mu is held.
func (r *retained) free() {
	if r.small != nil {
		smallBuffers.Put(r.small)
	}
	if r.large != nil {
		largeBuffers.Put(r.large)
	}
	r.data, r.small, r.large = nil, nil, nil
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
