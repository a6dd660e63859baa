package http1

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"sync"
	"time"
)

// MaxBody is the maximum size in bytes of a request body that a Transport sends. The request is written without reading from
// the upstream meanwhile, so it must fit into the send buffer of any connection.
const MaxBody = 16 << 10

// errHeaderTooLarge is wrapped by the error for a response whose header section exceeds the limit.
var errHeaderTooLarge = errors.New("the response's header section is too large")

// TransportConfig configures a Transport. All fields are required.
type TransportConfig struct {
	Dial           func(context.Context) (net.Conn, error) // opens a connection that uses HTTP/1.1
	MaxIdle        int                                     // maximum number of idle connections
	IdleTimeout    time.Duration                           // how long a connection may be idle
	MaxHeaderBytes int64                                   // limit of a response's header section; without Hooks, interim responses count too
}

// Transport sends requests to one upstream and keeps idle connections. It is safe for concurrent use. It differs from
// http.Transport as follows:
//   - it accepts only requests for which CanSend is true;
//   - it sends a request with a body only once the whole body has been read;
//   - it sends header fields in no particular order;
//   - it never takes bytes that an upstream sends after a response for the next response;
//   - the error for an incomplete header section wraps io.ErrUnexpectedEOF, even if the section looks malformed;
//   - if no byte of a request could be written to a reused connection, it sends the request again, even with a body.
type Transport struct {
	config TransportConfig
	idle   idlePool
}

var _ http.RoundTripper = (*Transport)(nil)

// NewTransport returns a Transport without connections. It has no goroutines. CloseIdleConnections releases its resources.
func NewTransport(c TransportConfig) *Transport {
	t := &Transport{config: c}
	t.idle.maxIdle, t.idle.timeout = c.MaxIdle, c.IdleTimeout
	return t
}

// CloseIdleConnections closes the idle connections. When it returns, none of them can be used for another request, but closing
// them may continue in the background.
func (t *Transport) CloseIdleConnections() { t.idle.closeAll() }

// CanSend reports whether a Transport can send r: it must not be an upgrade or use Expect, and its body, if any, must have a known
// length of at most MaxBody and no trailers.
func CanSend(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody && (r.ContentLength <= 0 || r.ContentLength > MaxBody) {
		return false
	}
	return r.Trailer == nil && r.TransferEncoding == nil && !r.Close && r.Method != "" && r.Method != http.MethodConnect &&
		r.Header["Upgrade"] == nil && r.Header["Expect"] == nil
}

// requestBuffers has buffers for encoded requests.
var requestBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBuffer is the maximum size in bytes of a buffer that is used again.
const maxPooledBuffer = 64 << 10

// RoundTrip implements http.RoundTripper for requests for which CanSend is true. It returns an error if there is no
// response; if the context has ended, that is the context's cause. The context may have Hooks.
//
// It sends a request at most twice. It does so if an idle connection turns out to be closed, and either nothing was sent on it
// or the request may be repeated (RFC 9110, section 9.2.2). The second attempt uses a new connection.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	hooks, _ := ctx.Value(HooksKey{}).(Hooks)
	buffer := requestBuffers.Get().(*[]byte)
	text, err := appendRequest((*buffer)[:0], r)
	if cap(text) <= maxPooledBuffer {
		*buffer = text
	}
	defer requestBuffers.Put(buffer)
	if r.Body != nil {
		_ = r.Body.Close() // appendRequest has read it or has failed
	}
	if err != nil {
		return nil, causeOr(ctx, err)
	}
	retried := false
	for {
		c, err := t.connect(ctx, retried)
		if err != nil {
			return nil, err
		}
		res, err := t.roundTrip(ctx, c, r, text, hooks)
		if err == errStale {
			continue // not an attempt: GotConn has not been called for the connection
		}
		if err == nil || retried || !c.reused || ctx.Err() != nil || !mayRetry(r, err) {
			return res, causeOr(ctx, err)
		}
		retried = true
	}
}

// causeOr returns the cause of ctx if err is not nil and ctx has ended, and err otherwise.
func causeOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connect returns a connection: an idle one, if there is one and fresh is false, or else a new one.
func (t *Transport) connect(ctx context.Context, fresh bool) (*conn, error) {
	var c *conn
	if !fresh {
		c = t.idle.take()
	}
	if c == nil {
		netConn, err := t.config.Dial(ctx)
		if err != nil {
			return nil, causeOr(ctx, err)
		}
		c = newConn(netConn, &t.idle)
	}
	return c, nil
}

// roundTrip sends text on c and reads the header section of the response. Afterwards c is closed, in the pool, or owned by the
// response body.
func (t *Transport) roundTrip(ctx context.Context, c *conn, r *http.Request, text []byte, hooks Hooks) (*http.Response, error) {
	c.registration = AfterFunc(ctx, &c.interrupt)
	res, err := c.roundTrip(ctx, text, r, hooks, t.config.MaxHeaderBytes)
	if err != nil {
		c.close()
		return nil, err
	}
	c.limit = noLimit
	c.noReuse = res.Close || res.StatusCode < 200 || c.writeErr != nil
	if r.Method == http.MethodHead || res.ContentLength == 0 || res.StatusCode == http.StatusSwitchingProtocols {
		res.Body = http.NoBody
		c.release()
		return res, nil
	}
	b := &responseBody{ctx: ctx, inner: res.Body}
	if c.plain {
		b.sized = sizedReader{reader: c.reader, remaining: res.ContentLength}
		b.inner = &b.sized
	}
	b.conn.Store(c)
	res.Body = b
	return res, nil
}

// errStale means that an idle connection can't be used. Nothing has been sent on it.
var errStale = errors.New("the upstream has closed the idle connection or sent unexpected data")

type (
	notSentError    struct{ error } // no byte of the request has been sent
	noResponseError struct{ error } // no byte of a response has arrived
)

// Unwrap returns the error that e wraps.
func (e notSentError) Unwrap() error { return e.error }

// Unwrap returns the error that e wraps.
func (e noResponseError) Unwrap() error { return e.error }

// mayRetry reports whether r may be sent again after err on a reused connection.
func mayRetry(r *http.Request, err error) bool {
	switch err.(type) {
	case notSentError:
		return true
	case noResponseError:
	default:
		return false
	}
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return r.Header["Idempotency-Key"] != nil || r.Header["X-Idempotency-Key"] != nil
}

// HooksKey is the context key of a request's Hooks.
type HooksKey struct{}

// Hooks are called while a request is sent, on the goroutine that called RoundTrip. They correspond to those of
// httptrace.ClientTrace, which would need new closures for each request.
type Hooks interface {
	// GotConn is called for each connection that is used, before the first byte of the request is sent. If the context of
	// the request ends during the call, the request is not sent.
	GotConn(c net.Conn)
	// GotFirstResponseByte is called when the first byte of a response has arrived, before it is parsed.
	GotFirstResponseByte()
	// Got1xxResponse is called for each interim response. If it returns an error, the request fails with it.
	Got1xxResponse(code int, header textproto.MIMEHeader) error
}
