package message

import (
	"errors"
	"io"
	"sync"
)

// BufferedBody is a body that has been read completely. It is not safe for concurrent use.
type BufferedBody struct {
	data   []byte
	pooled *[smallBody]byte // the buffer of data, if it is from the pool
	offset int
}

// smallBody is the size in bytes of the pooled buffers for bodies; a larger buffer is allocated and dropped.
const smallBody = 64<<10 + 1

var smallBodies = sync.Pool{New: func() any { return new([smallBody]byte) }}

var errTooLong = errors.New("malformed response: its body is longer than its Content-Length")

// Fill reads a body of the given length in bytes from r. It fails if r fails or has more.
func (b *BufferedBody) Fill(r io.Reader, length int) error {
	b.allocate(length + 1) // one byte more, so that a longer body is noticed
	n := 0
	for {
		m, err := r.Read(b.data[n:])
		n += m
		if err == io.EOF {
			b.data = b.data[:n]
			return nil
		}
		if err == nil && n == len(b.data) {
			err = errTooLong
		}
		if err != nil {
			_ = b.Close()
			return err
		}
	}
}

func (b *BufferedBody) allocate(n int) {
	if n > smallBody {
		b.data = make([]byte, n)
		return
	}
	b.pooled = smallBodies.Get().(*[smallBody]byte)
	b.data = b.pooled[:n]
}

// Unread returns what has not been read yet. It is valid until Close.
func (b *BufferedBody) Unread() []byte { return b.data[b.offset:] }

// Read implements io.Reader.
func (b *BufferedBody) Read(p []byte) (int, error) {
	if b.offset == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.offset:])
	b.offset += n
	return n, nil
}

// Close returns the buffer to the pool.
func (b *BufferedBody) Close() error {
	if b.pooled != nil {
		smallBodies.Put(b.pooled)
		b.pooled = nil
	}
	b.data, b.offset = nil, 0
	return nil
}
