package http1

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// body is a response's, and gives its connection back at its end. Close may be called while Read is waiting.
type body struct {
	ctx   context.Context // the request's
	inner io.ReadCloser
	conn  atomic.Pointer[conn] // nil: it is given back or closed
	end   error                // what Read says from now on
}

func newBody(ctx context.Context, c *conn, inner io.ReadCloser) *body {
	b := &body{ctx: ctx, inner: inner}
	b.conn.Store(c)
	return b
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
