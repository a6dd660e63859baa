package fallbacks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// remote is a server that a strategy asks over HTTP. Safe for concurrent use.
type remote struct {
	target      routes.Target
	timeout     time.Duration
	tooSlow     error // says that timeout has passed
	maxResponse int64 // bytes of a response's body
	h2c         bool
	connections *connections
}

// newRemote returns the server at u, with the connections of the strategy before where they
// lead to the same server. before may be nil.
func newRemote(u routes.Upstream, tls routes.TLS, timeout time.Duration, maxResponse routes.Size, site Site, before *connections) (remote, error) {
	c, err := connect(u, tls, site, before)
	if err != nil {
		return remote{}, err
	}
	r := remote{
		target:      u.Target(),
		timeout:     timeout,
		tooSlow:     fmt.Errorf("no answer within %v", timeout),
		maxResponse: int64(maxResponse),
		h2c:         u.Scheme == "h2c",
		connections: c,
	}
	return r, nil
}

// timeLimitMargin is what a chain waits beyond a remote's time limit, so that it is the remote
// that notices it.
const timeLimitMargin = time.Second

// TimeLimit returns the remote's time limit and a little more.
func (s *remote) TimeLimit() time.Duration {
	return max(s.timeout, s.timeout+timeLimitMargin) // the sum may overflow
}

// fault is why there is no whole response.
type fault struct {
	kind events.ErrorType // "" if it says nothing of the server
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// request returns a request for path, which is below the URL's own, and query: both go out
// byte for byte. Nothing that is given may change until http.Transport has done with it,
// which may be after it has answered.
func (s *remote) request(method, path, query string, h http.Header, body []byte) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{RawQuery: query}, Header: h}
	s.target.Address(r.URL, path)
	if len(body) > 0 {
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}
	return r
}

// ask sends r and returns the response once it is whole. accept judges its status before the
// body is read; its error becomes a fault of kind ErrorStatus. Redirects are not followed. The
// answer's header is without the fields of the server's connection, and the caller's own.
func (s *remote) ask(ctx context.Context, r *http.Request, accept func(status int) error) (*Answer, *fault) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, s.tooSlow)
	defer cancel()
	ctx = upstream.WithDialDeadline(ctx, time.Now().Add(s.timeout))
	progress, paused := upstream.NotConnected, upstream.Paused()
	var conn net.Conn // the last one
	ctx, done := upstream.LimitReplays(ctx, s.h2c, func(c net.Conn) { conn, progress = c, upstream.Connected })
	defer done()
	res, err := s.connections.transport.Current().RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, blame(ctx, err, progress, paused)
	}
	defer func() { _ = res.Body.Close() }() // what is left of it is not wanted
	defer upstream.CloseBodyWith(ctx, res)()
	if c, shared := upstream.Unwrap(conn, s.h2c); !shared {
		if f, ok := c.(upstream.FieldsConn); ok {
			f.RestoreFields(res.Header)
		}
	}
	if res.StatusCode < 200 || res.StatusCode > 599 {
		return nil, &fault{events.ErrorProtocol, fmt.Errorf("malformed response: status %03d", res.StatusCode)}
	}
	if err := accept(res.StatusCode); err != nil {
		return nil, &fault{events.ErrorStatus, err}
	}
	body, err := readWhole(res, s.maxResponse)
	if err != nil {
		return nil, blame(ctx, err, upstream.Responded, paused)
	}
	upstream.RemoveHopByHop(res.Header)
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

// blame classifies the error of a request that had come as far as p. A time limit that has passed is the server's fault,
// whoever has set it, unless the process has been stopped for longer than paused in all.
func blame(ctx context.Context, err error, p upstream.Progress, paused time.Duration) *fault {
	switch {
	case upstream.Paused() > paused:
		return &fault{"", err}
	case ctx.Err() == context.DeadlineExceeded:
		return &fault{events.ErrorTimeout, context.Cause(ctx)}
	case context.Cause(ctx) == upstream.ErrReplayed:
		return &fault{events.ErrorReset, upstream.ErrReplayed}
	case ctx.Err() != nil: // nobody waits any more
		return &fault{"", context.Cause(ctx)}
	case errors.Is(err, context.Canceled):
		// That of the connection's last request, which http.Transport has taken for over a
		// moment too early.
		return &fault{"", err}
	}
	return &fault{upstream.Classify(err, p).Failure, err}
}

// readWhole reads the response's body, an error if it has more than limit bytes.
func readWhole(res *http.Response, limit int64) ([]byte, error) {
	if res.Body == http.NoBody {
		return nil, nil // ContentLength may tell that of another response: that to a GET
	}
	tooLong := fmt.Errorf("the response is longer than %v", routes.Size(limit))
	if res.ContentLength > limit {
		return nil, tooLong
	}
	var b bytes.Buffer
	if res.ContentLength > 0 {
		b.Grow(int(res.ContentLength) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the response's body: %w", err)
	case n > limit:
		return nil, tooLong
	}
	return b.Bytes(), nil
}
