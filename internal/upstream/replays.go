package upstream

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
)

// ErrReplayed is the cause with which the context of a request ends that was sent on two connections in a row which were
// closed before a response.
var ErrReplayed = errors.New("two connections in a row were closed before they answered")

// MaxUnprocessed is how often a request is sent at most over HTTP/2, as long as the upstream reports that it has not
// processed it.
const MaxUnprocessed = 4

// limitReplays returns a context for one request to an http.Transport, with which it sends that twice at most: on an
// idle connection that the server turns out to have closed, and once more. Otherwise it goes through a whole pool of closed
// connections with a single request that is safe to repeat, as those with an Idempotency-Key are, too. connected is called
// with each connection that the request is given, on the goroutine that makes the request. The caller must cancel the
// context.
func (p *Pool) limitReplays(ctx context.Context, connected func(net.Conn)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	given := 0
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connected(info.Conn)
		c, shared := p.Unwrap(info.Conn)
		if u, ok := c.(*Conn); ok && !shared {
			u.BeginRequest(nil)
		}
		given++
		if given <= 2 || shared && given <= MaxUnprocessed {
			return
		}
		cancel(ErrReplayed)
		if !shared {
			_ = c.Close() // before the first byte is written
		}
	}})
	return traced, func() { cancel(nil) }
}
