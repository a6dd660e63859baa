// Package http1 asks one upstream over HTTP/1.1 on the caller's goroutine. It is for the plain case, requests
// with a short body of known length, in which http.Transport spends most of its time on handing each
// request to the two goroutines that it has for each connection.
package http1

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// MaxBody is the size in bytes of the longest request body that a Transport takes. It is sent at once, without
// reading what the upstream says meanwhile, and so must fit into the send buffer of any connection.
const MaxBody = 16 << 10

// ErrHeaderTooLarge is wrapped by the error for a response whose header section is over the limit.
var ErrHeaderTooLarge = errors.New("the response's header section is too large")

// TransportConfig is what a Transport needs.
type TransportConfig struct {
	Dial           func(context.Context) (net.Conn, error) // opens a connection, which speaks HTTP/1.1
	MaxIdle        int                                     // connections that are kept while nothing is asked
	IdleTimeout    time.Duration                           // how long each is kept
	MaxHeaderBytes int64                                   // of a response, with interim ones that nobody looks at
}

// Transport keeps the connections to one upstream. Safe for concurrent use. It differs from http.Transport in
// what follows, beside in what it does not take:
//   - a request with a body is sent when the client has sent all of it, and not piece by piece;
//   - the fields of a request are sent in no order;
//   - what an upstream says behind its response is never taken for the next one's;
//   - a header section that has no end is an error that wraps io.ErrUnexpectedEOF, whatever it looks like;
//   - a request whose connection could not be written to at all is sent again even if it has a body.
type Transport struct {
	config TransportConfig
	idle   idle
}

// New returns a Transport without a connection. It has no goroutine; CloseIdleConnections is all that has to be
// called in the end.
func NewTransport(c TransportConfig) *Transport {
	t := &Transport{config: c}
	t.idle.most, t.idle.timeout = c.MaxIdle, c.IdleTimeout
	return t
}

// CloseIdleConnections closes those that are not in use: none of them gets another request once it has returned. It does
// not wait until they are closed.
func (t *Transport) CloseIdleConnections() { t.idle.closeAll() }

// CanSend reports whether r is plain: neither an upgrade nor a request that waits to be asked for its body, and with
// a body, if any, of known length, at most MaxBody, and without trailers.
func CanSend(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody && (r.ContentLength <= 0 || r.ContentLength > MaxBody) {
		return false
	}
	return r.Trailer == nil && r.TransferEncoding == nil && !r.Close && r.Method != "" && r.Method != http.MethodConnect &&
		r.Header["Upgrade"] == nil && r.Header["Expect"] == nil
}

// requests lends memory for what is sent.
var requests = sync.Pool{New: func() any { return new([]byte) }}

// keptRequest is the size in bytes of the largest memory that is lent again.
const keptRequest = 64 << 10

// RoundTrip is http.RoundTripper's, for a request of which CanSend is true. An error means that there is no
// response; it is the context's cause if that ended first. The request's context may have Hooks.
//
// It sends a request twice at most: again, on a new connection, if an idle one turns out to be closed and the
// first one was not sent at all, or was but may be repeated (RFC 9110, section 9.2.2).
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	hooks, _ := ctx.Value(HooksKey{}).(Hooks)
	lent := requests.Get().(*[]byte)
	text, err := appendRequest((*lent)[:0], r)
	if cap(text) <= keptRequest {
		*lent = text
	}
	defer requests.Put(lent)
	if r.Body != nil {
		_ = r.Body.Close() // it has been read, or has failed
	}
	if err != nil {
		return nil, causeOr(ctx, err)
	}
	again := false
	for {
		c, err := t.connect(ctx, again)
		if err != nil {
			return nil, err
		}
		res, err := t.ask(ctx, c, r, text, hooks)
		if err == errStale {
			continue // which was no try: nobody was told of that connection
		}
		if err == nil || again || !c.reused || ctx.Err() != nil || !mayRepeat(r, err) {
			return res, causeOr(ctx, err)
		}
		again = true
	}
}

// causeOr returns why ctx has ended, or err if it has not.
func causeOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connect returns a connection for the next request, a new one if there must be no idle one.
func (t *Transport) connect(ctx context.Context, fresh bool) (*conn, error) {
	var c *conn
	if !fresh {
		c = t.idle.take()
	}
	if c == nil {
		dialled, err := t.config.Dial(ctx)
		if err != nil {
			return nil, causeOr(ctx, err)
		}
		c = newConn(dialled, &t.idle)
	}
	return c, nil
}

// Why there is no response, as far as it tells whether the request may be sent again.
var errStale = errors.New("the upstream has closed the connection, or said what it was not asked for")

type (
	unsentError   struct{ error } // nothing of the request was sent
	unheededError struct{ error } // nothing of a response has come
)

func (e unsentError) Unwrap() error   { return e.error }
func (e unheededError) Unwrap() error { return e.error }

// mayRepeat reports whether r may be sent again after err on a connection that has been used before.
func mayRepeat(r *http.Request, err error) bool {
	switch err.(type) {
	case unsentError:
		return true
	case unheededError:
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

// ask sends text on c and reads the response's header section. It closes c, or leaves it to the response's body, or
// gives it back.
func (t *Transport) ask(ctx context.Context, c *conn, r *http.Request, text []byte, hooks Hooks) (*http.Response, error) {
	c.watch = AfterFunc(ctx, &c.hurried)
	res, err := c.ask(ctx, text, r, hooks, t.config.MaxHeaderBytes)
	if err != nil {
		c.close()
		return nil, err
	}
	c.limit = noLimit
	c.spent = res.Close || res.StatusCode < 200 || c.broken != nil
	if r.Method == http.MethodHead || res.ContentLength == 0 || res.StatusCode == http.StatusSwitchingProtocols {
		res.Body = http.NoBody
		c.giveBack()
		return res, nil
	}
	b := &body{ctx: ctx, inner: res.Body}
	if c.plain {
		b.plain = bounded{reader: c.reader, left: res.ContentLength}
		b.inner = &b.plain
	}
	b.conn.Store(c)
	res.Body = b
	return res, nil
}

var _ http.RoundTripper = (*Transport)(nil)
