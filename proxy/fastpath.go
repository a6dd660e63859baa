package proxy

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"

	"cbproxy/internal/http1"
	"cbproxy/internal/httpserver"
)

// roundTrip sends the attempt's request to the upstream: on the fast path if the request is plain and its body has arrived,
// and otherwise by http.Transport.
func (a *attempt) roundTrip(out *http.Request) (*http.Response, error) {
	x, p := a.x, a.x.route.pool
	if x.route.config.Transport == "auto" && p.TakesFast(out) && (out.Body == nil || x.gather(out)) {
		res, sent, err := p.RoundTripFast(out)
		b, _ := out.Body.(*shortBody)
		if sent {
			if b != nil {
				shortBodies.Put(b)
			}
			return res, err
		}
		if b != nil {
			b.read = 0
		}
	}
	a.hook(httptrace.ContextClientTrace(out.Context()))
	return p.RoundTrip(out)
}

// shortBody is a short request body, or the first part of one that has not arrived completely.
type shortBody struct {
	data      [http1.MaxBody]byte
	read, end int
	rest      io.ReadCloser // nil: there is no more
	err       error         // the error that ended the first part
}

var shortBodies = sync.Pool{New: func() any { return new(shortBody) }}

// gather reads out's body if all of it has arrived, without waiting for a client that is still sending, and reports whether it
// has. In either case out has its whole body afterwards.
func (x *exchange) gather(out *http.Request) bool {
	c, ok := httpserver.ConnOf(x.r.Context())
	if !x.upload.isComplete() && (!ok || x.r.ProtoMajor != 1 || x.upload.read.Load() == 0 && !c.BodyArriving()) {
		return false // a read might block
	}
	b := shortBodies.Get().(*shortBody)
	n := int(out.ContentLength)
	b.read, b.rest = 0, nil
	b.end, b.err = out.Body.Read(b.data[:n])
	if b.end == n && b.err == nil {
		_, b.err = out.Body.Read(b.data[n:n]) // read the end of the body, which has no more bytes
	}
	whole := b.end == n && (b.err == nil || b.err == io.EOF)
	if !whole {
		b.rest = out.Body
	}
	out.Body = b
	return whole
}

func (b *shortBody) Read(p []byte) (int, error) {
	if b.read < b.end {
		n := copy(p, b.data[b.read:b.end])
		b.read += n
		return n, nil
	}
	switch {
	case b.err != nil:
		return 0, b.err
	case b.rest != nil:
		return b.rest.Read(p)
	}
	return 0, io.EOF
}

// Close closes the rest of the body.
func (b *shortBody) Close() error {
	if b.rest != nil {
		return b.rest.Close()
	}
	return nil
}
