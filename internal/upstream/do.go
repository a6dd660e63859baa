package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// Error is the error of a request that the proxy itself makes and that got no response, or no complete one.
type Error struct {
	ErrorClass
	// Connected reports whether the request was given a connection.
	Connected bool
	Err       error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Response is the response to a request that the proxy itself makes. Close must be called. The methods must be called from one
// goroutine, except that another one may call Close to end a read.
type Response struct {
	*http.Response
	ctx     context.Context
	release func()        // releases the request's resources
	paused  time.Duration // what Paused was when the request was sent
}

// DoOptions are the optional arguments of Do.
type DoOptions struct {
	// Connected is called with each connection that the request is given, on the caller's goroutine.
	Connected func(net.Conn)
	// RoundTrip sends the request by calling next, or returns a response or an error of its own.
	RoundTrip func(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error)
}

// Do sends a request that the proxy itself makes (a probe, a delivery, or a strategy's request) and returns its response, without
// hop-by-hop fields, once the header section has arrived. timeout limits the time until Close. Redirects are not followed.
func (p *Pool) Do(r *http.Request, timeout time.Duration, o DoOptions) (*Response, *Error) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), timeout, fmt.Errorf("no response within %v", timeout))
	ctx = context.WithValue(ctx, DialDeadline, time.Now().Add(timeout))
	var conn net.Conn // the latest one
	limited, stop := p.limitReplays(ctx, func(c net.Conn) {
		if conn = c; o.Connected != nil {
			o.Connected(c)
		}
	})
	w := &Response{ctx: limited, release: func() { stop(); cancel() }, paused: Paused()}
	send := p.RoundTrip
	if o.RoundTrip != nil {
		send = func(r *http.Request) (*http.Response, error) { return o.RoundTrip(r, p.RoundTrip) }
	}
	res, err := send(r.WithContext(limited))
	if err != nil {
		defer w.release()
		progress := NotConnected
		if conn != nil {
			progress = Connected
		}
		return nil, w.classify(err, progress)
	}
	w.Response = res
	stopWatch := CloseBodyWith(limited, res)
	w.release = func() { stopWatch(); _ = res.Body.Close(); stop(); cancel() }
	if res.StatusCode < 200 {
		defer w.release()
		return nil, malformedStatus(res.StatusCode)
	}
	if c, multiplexed := p.ConnBelowTLS(conn); !multiplexed {
		if u, ok := c.(*Conn); ok {
			u.RestoreFields(res.Header)
		}
	}
	RemoveHopByHop(res.Header)
	return w, nil
}

func malformedStatus(status int) *Error {
	return &Error{ErrorClass{Failure: events.ErrorProtocol}, true, fmt.Errorf("malformed response: status %03d", status)}
}

// Close ends the request. The rest of the response's body is not read.
func (w *Response) Close() { w.release() }

// Discard reads up to n bytes of the body, so that the connection can be reused. It returns nil if the body is longer.
func (w *Response) Discard(n int64) *Error {
	if _, err := io.CopyN(io.Discard, w.Body, n); err != nil && err != io.EOF {
		return w.classify(err, Responded)
	}
	return nil
}

// ReadAll reads the body. One of more than limit bytes is an error.
func (w *Response) ReadAll(limit int64) ([]byte, *Error) {
	if w.Body == http.NoBody {
		return nil, nil // ContentLength may be that of another response, see dropBody
	}
	tooLong := &Error{ErrorClass{Failure: events.ErrorProtocol}, true, fmt.Errorf("the response is longer than %d bytes", limit)}
	if w.ContentLength > limit {
		return nil, tooLong
	}
	var b bytes.Buffer
	if w.ContentLength > 0 {
		b.Grow(int(w.ContentLength) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(w.Body, limit+1))
	switch {
	case err != nil:
		return nil, w.classify(fmt.Errorf("read the response's body: %w", err), Responded)
	case n > limit:
		return nil, tooLong
	}
	return b.Bytes(), nil
}

// classify returns the error of a request that failed at the stage progress. An exceeded deadline is a failure of the upstream,
// whether Do or the caller set it, unless the process was paused meanwhile. The cancellation of the caller's context is no
// failure.
func (w *Response) classify(err error, progress Progress) *Error {
	connected := progress != NotConnected
	failure := func(kind events.ErrorType, err error) *Error {
		return &Error{ErrorClass{Failure: kind}, connected, err}
	}
	switch cause := context.Cause(w.ctx); {
	case Paused() > w.paused:
		return &Error{ErrorClass{Local: events.LocalPause}, connected, err}
	case w.ctx.Err() == context.DeadlineExceeded:
		return failure(events.ErrorTimeout, cause)
	case cause == ErrReplayed, cause == ErrUnprocessed:
		return failure(events.ErrorReset, cause)
	case cause != nil:
		return failure("", cause)
	case errors.Is(err, context.Canceled):
		// The connection's previous request was cancelled after http.Transport had already taken it for complete.
		return failure("", err)
	}
	return &Error{Classify(err, progress), connected, err}
}

// CloseBodyWith closes the body of res when ctx, the request's context, ends, unless stop is called before. It is needed for
// HTTP/2 requests with a body: while the body waits for the peer's flow control, http.Transport does not end a read of the
// response's body when the context ends.
func CloseBodyWith(ctx context.Context, res *http.Response) (stop func() bool) {
	body := res.Body // which the caller may replace
	return context.AfterFunc(ctx, func() { _ = body.Close() })
}
