package http1

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// body is a response's, and gives its connection back at its end. Close may be called while Read is waiting.
type body struct {
	ctx   context.Context // the request's
	inner io.Reader
	plain bounded              // what inner is, if the response is plain
	conn  atomic.Pointer[conn] // nil: it is given back or closed
	end   error                // what Read says from now on
}

func (b *body) Read(p []byte) (int, error) {
	if b.end != nil {
		return 0, b.end
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
			c.giveBack()
		} else {
			err = causeOr(b.ctx, err)
			c.close()
		}
	}
	b.end = err
	return n, err
}

// Close ends the connection if the body is not at its end.
func (b *body) Close() error {
	if c := b.conn.Swap(nil); c != nil {
		c.close()
	}
	return nil
}

// bounded is a body of known length.
type bounded struct {
	reader *bufio.Reader
	left   int64 // bytes that are missing
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
