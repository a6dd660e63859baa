package fault

import (
	"io"
	"net/http"

	"cbproxy/internal/events"
)

// cut makes the body of res, the response to r, end early. A response that has no body is not changed.
func (f *Fault) cut(r *http.Request, res *http.Response) {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		if c, ok := res.Body.(io.ReadWriteCloser); ok {
			f.count()
			res.Body = &cutTunnel{cutBody{fault: f, body: c, remaining: -1}, c}
		}
		return
	case r.Method == http.MethodHead, !bodyAllowed(res.StatusCode), res.ContentLength == 0, res.Body == http.NoBody:
		return
	}
	f.count()
	b := &cutBody{fault: f, body: res.Body, remaining: -1}
	if res.ContentLength > 0 {
		b.remaining = res.ContentLength / 2
	}
	res.Body = b
}

// cutBody is a body that ends early with an error, and is closed then, so that the upstream's connection is closed as well. Close
// may be called by any goroutine.
type cutBody struct {
	fault     *Fault
	body      io.ReadCloser
	remaining int64 // bytes that are still returned; -1: those of the next read that returns any
	ended     bool
}

// Read implements io.Reader.
func (b *cutBody) Read(p []byte) (int, error) {
	if b.ended || b.remaining == 0 {
		return 0, b.end()
	}
	if b.remaining > 0 {
		p = p[:min(int64(len(p)), b.remaining)]
	}
	n, err := b.body.Read(p)
	switch {
	case b.remaining > 0:
		b.remaining -= int64(n)
	case n > 0:
		b.remaining = 0
	}
	if err == io.EOF { // the body has no more than its first part
		b.remaining, err = 0, nil
		if n == 0 {
			err = b.end()
		}
	}
	return n, err
}

func (b *cutBody) end() error {
	b.ended = true
	_ = b.body.Close()
	return b.fault.failure(events.ErrorTruncated, "the response was cut off")
}

// Close implements io.Closer.
func (b *cutBody) Close() error { return b.body.Close() }

// cutTunnel is the upstream's connection of a request after a switch of protocols. It ends after the first data from the upstream.
type cutTunnel struct {
	cutBody
	conn io.ReadWriteCloser
}

// Write implements io.Writer.
func (t *cutTunnel) Write(p []byte) (int, error) { return t.conn.Write(p) }

// CloseWrite closes the writing side of the connection if it has one that can be closed alone.
func (t *cutTunnel) CloseWrite() error {
	if half, ok := t.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return http.ErrNotSupported
}
