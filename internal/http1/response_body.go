package http1

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// responseBody is the body of a response. At its end it returns the connection to the pool. Close may be called during Read.
type responseBody struct {
	ctx    context.Context // the request's
	inner  io.Reader
	sized  sizedReader          // inner, if the response is plain
	conn   atomic.Pointer[conn] // nil: it has been returned or closed
	result error                // of all further reads
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	if b.result != nil {
		return 0, b.result
	}
	if b.conn.Load() == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.inner.Read(p)
	if err == nil {
		return n, nil
	}
	if c := b.conn.Swap(nil); c != nil {
		if err == io.EOF {
			c.release()
		} else {
			err = causeOr(b.ctx, err)
			c.close()
		}
	}
	b.result = err
	return n, err
}

// Close closes the connection unless the body has been read to its end.
func (b *responseBody) Close() error {
	if c := b.conn.Swap(nil); c != nil {
		c.close()
	}
	return nil
}

// sizedReader reads a body of known length.
type sizedReader struct {
	reader    *bufio.Reader
	remaining int64
}

// Read implements io.Reader.
func (r *sizedReader) Read(p []byte) (int, error) {
	if r.remaining == 0 {
		return 0, io.EOF
	}
	n, err := r.reader.Read(p[:min(int64(len(p)), r.remaining)])
	r.remaining -= int64(n)
	switch {
	case r.remaining == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
