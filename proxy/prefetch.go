package proxy

import (
	"context"
	"io"
	"net/http"
	"slices"

	"cbproxy/internal/events"
)

// maxPrefetch is the size in bytes of the largest request body that is read before the request is admitted as a probe.
const maxPrefetch = 64 << 10

// prefetch reads the whole body, which Read returns later. It is called before Read.
func (b *requestBody) prefetch() error {
	b.readMu.Lock()
	defer b.readMu.Unlock()
	b.reading.Store(true)
	defer b.reading.Store(false)
	const step = 4 << 10 // allocate little more than the client has sent
	var data []byte
	for {
		data = slices.Grow(data, int(min(step, b.x.r.ContentLength-int64(len(data))+1)))
		n, err := b.receive(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch err {
		case nil:
		case io.EOF:
			b.prefetched = data
			return nil
		default:
			return err
		}
	}
}

// mayPrefetch reports whether the request's body is to be read before the request is admitted as a probe: it is short, the
// client sends it without waiting for a 100 (Continue), and the breaker can reject the request.
func (x *exchange) mayPrefetch() bool {
	c, n := &x.route.config.Breaker, x.r.ContentLength
	return c.Mode == "enforce" && c.Probe.Path == "" && n > 0 && n <= maxPrefetch && x.r.Header["Expect"] == nil && !x.upload.isComplete()
}

// answerIncompleteUpload answers a request whose body was to be read before admission and did not arrive.
func (x *exchange) answerIncompleteUpload() {
	switch fault := x.upload.readError(); {
	case context.Cause(x) == errPaused:
		x.fallback(events.ReasonOverload)
	case context.Cause(x) == errSlowClient:
		x.problem(slowBody)
	case fault == errBodyTooLarge:
		x.problem(bodyTooLarge)
	case fault == nil && x.r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	default:
		x.problem(badBody)
	}
}
