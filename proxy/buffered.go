package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"cbproxy/fallbacks"
)

var errTooLong = errors.New("malformed response: its body is longer than its Content-Length")

// readWhole reads a small response before any of it is sent to the client, so that a fallback can replace one that breaks off.
func (a *attempt) readWhole(res *http.Response, recorder fallbacks.Recorder) error {
	b := &a.x.buffered
	b.allocate(int(res.ContentLength) + 1) // one more, so that the end is seen
	n := 0
	for {
		m, err := res.Body.Read(b.data[n:])
		n += m
		if err == io.EOF {
			break
		}
		if err == nil && n == len(b.data) {
			err = errTooLong
		}
		if err != nil {
			_ = b.Close()
			a.classify(err)
			return err
		}
	}
	_ = res.Body.Close() // it has been read
	b.data = b.data[:n]
	a.reportSuccess()
	recordBody(recorder, b.data)
	res.Body = b
	return nil
}

// bufferedBody is a body that has been read completely.
type bufferedBody struct {
	data   []byte
	pooled *[smallBody]byte // the buffer of data, if it is from the pool
	offset int
}

// smallBody is the size in bytes of the pooled buffers for bodies; a larger buffer is allocated and dropped.
const smallBody = 64<<10 + 1

var smallBodies = sync.Pool{New: func() any { return new([smallBody]byte) }}

func (b *bufferedBody) allocate(n int) {
	if n > smallBody {
		b.data = make([]byte, n)
		return
	}
	b.pooled = smallBodies.Get().(*[smallBody]byte)
	b.data = b.pooled[:n]
}

func (b *bufferedBody) Read(p []byte) (int, error) {
	if b.offset == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.offset:])
	b.offset += n
	return n, nil
}

// Close returns the buffer to the pool.
func (b *bufferedBody) Close() error {
	if b.pooled != nil {
		smallBodies.Put(b.pooled)
		b.pooled = nil
	}
	b.data, b.offset = nil, 0
	return nil
}
