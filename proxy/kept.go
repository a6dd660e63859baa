package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// kept is what has been read of a client's body, as long as that is not too much for the
// route's fallback. The zero kept keeps nothing.
type kept struct {
	limit int64
	data  []byte
	lent  *[smallBody]byte // where data stands, if it came from the pool
	lost  bool             // more has been read than is kept
}

// keepUpTo keeps a body of up to limit bytes for the fallback. It is called before anything is
// read.
func (b *requestBody) keepUpTo(limit int64) {
	if limit > 0 && b.x.r.ContentLength <= limit {
		b.kept.limit = limit
	}
}

func (k *kept) add(p []byte) {
	switch size := len(k.data) + len(p); {
	case k.limit == 0 || k.lost:
	case int64(size) > k.limit:
		k.lost, k.data = true, nil
	case k.data == nil && size > 0 && size <= smallBody:
		k.lent = smallBodies.Get().(*[smallBody]byte)
		k.data = append(k.lent[:0], p...)
	default:
		k.data = append(k.data, p...) // what outgrows the pool's buffer leaves it
	}
}

// forget gives the buffer back, unless the transport may still be reading.
func (b *requestBody) forget() {
	if !b.ended.Load() {
		return
	}
	b.turn.Lock() // the transport may look behind the end even now
	defer b.turn.Unlock()
	if b.kept.lent != nil {
		smallBodies.Put(b.kept.lent)
		b.kept = kept{}
	}
}

var (
	errNotKept   = errors.New("the request's body is larger than any strategy wants it")
	errNotWhole  = errors.New("the request's body did not arrive in whole")
	errUploading = errors.New("the request's body is still on its way")
)

// known returns the body, if all of it has been read.
func (b *requestBody) known(limit int64) ([]byte, error) {
	switch {
	case b.body == nil:
		return nil, nil
	case !b.ended.Load():
		return nil, errUploading
	}
	b.turn.Lock()
	defer b.turn.Unlock()
	return b.kept.whole(limit)
}

func (k *kept) whole(limit int64) ([]byte, error) {
	switch {
	case k.lost || k.limit == 0:
		return nil, errNotKept
	case int64(len(k.data)) > limit:
		return nil, fmt.Errorf("the request's body is larger than %d bytes", limit)
	}
	return k.data, nil
}

// uploadPatience is how long a fallback that wants the body waits for what is left of it, as
// long as the client goes on sending.
const uploadPatience = 5 * time.Second

// spare makes the transport read no more, and does not end a read that is under way at once, so
// that the fallback gets the rest. It is false if nothing is kept for one.
func (b *requestBody) spare() bool {
	if b.kept.limit == 0 {
		return false
	}
	b.closed.Store(true)
	_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Now().Add(lingerPause))
	return true
}

// rest takes the body away from the transport, reads what is left of it, and returns the whole.
func (b *requestBody) rest(limit int64) ([]byte, error) {
	if b.body == nil {
		return nil, nil
	}
	control := http.NewResponseController(b.x.w)
	if b.ended.Load() {
		_ = control.SetReadDeadline(time.Time{}) // one of spare's is of no use any more, and would look like the client's end
		return b.known(limit)
	}
	if !b.spare() {
		return nil, errNotKept
	}
	b.turn.Lock()
	defer b.turn.Unlock()
	buffer := copyBuffers{}.Get()
	defer copyBuffers{}.Put(buffer)
	for start := time.Now(); !b.ended.Load(); {
		if b.interrupted.Load() || b.faulty() != nil || b.kept.lost || time.Since(start) > uploadPatience {
			return nil, errNotWhole
		}
		_ = control.SetReadDeadline(time.Now().Add(lingerPause))
		if _, err := b.receive(buffer); err != nil && err != io.EOF {
			return nil, errNotWhole
		}
	}
	_ = control.SetReadDeadline(time.Time{})
	return b.kept.whole(limit)
}
