package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
)

// ErrReplayed is the cause with which a context of LimitReplays ends by itself.
var ErrReplayed = errors.New("two connections in a row were closed before they answered")

// maxUnprocessed is how often a request is sent at most over HTTP/2, where http.Transport sends again what the server says
// that it has not processed.
const maxUnprocessed = 4

// LimitReplays returns a context for one request to an http.Transport, with which it sends that twice at most: on an
// idle connection that the server turns out to have closed, and once more. Without, it goes through a
// whole pool of closed connections with a single request that is safe to repeat, as those with an
// Idempotency-Key are, too. h2c tells that the connections speak HTTP/2 without TLS. connected is called with each
// connection that the request is given, on the goroutine that makes the request. The caller must cancel the
// context.
func LimitReplays(ctx context.Context, h2c bool, connected func(net.Conn)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	given := 0
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connected(info.Conn)
		c, shared := Unwrap(info.Conn, h2c)
		if f, ok := c.(FieldsConn); ok && !shared {
			f.ExpectResponse()
		}
		given++
		if given <= 2 || shared && given <= maxUnprocessed {
			return
		}
		cancel(ErrReplayed)
		if !shared {
			_ = c.Close() // before the first byte is written
		}
	}})
	return traced, func() { cancel(nil) }
}

// Unwrap returns what is below TLS, if c is TLS, and whether requests share c, as those of HTTP/2 do. h2c tells
// that it speaks HTTP/2 without TLS.
func Unwrap(c net.Conn, h2c bool) (below net.Conn, shared bool) {
	if t, ok := c.(tlsConn); ok {
		return t.NetConn(), t.ConnectionState().NegotiatedProtocol == "h2"
	}
	return c, h2c
}

// tlsConn is a *tls.Conn, or what is made of one.
type tlsConn interface {
	NetConn() net.Conn
	ConnectionState() tls.ConnectionState
}
