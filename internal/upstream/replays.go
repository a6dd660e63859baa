package upstream

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
)

// ErrReplayed is the cancellation cause of a request that was sent on two connections, both of which were closed before a
// response.
var ErrReplayed = errors.New("two consecutive connections were closed before a response")

// MaxUnprocessed is the maximum number of times that a request is sent over HTTP/2 while the upstream reports that it has not
// processed it.
const MaxUnprocessed = 4

// limitReplays returns a context with which an http.Transport sends a request at most twice: on an idle connection that the
// server has closed, and once more. Without it, http.Transport would try a request that is safe to repeat, such as one with an
// Idempotency-Key, on every closed connection of the pool. connected is called with each connection that the request gets, on
// the goroutine that sends the request. The caller must cancel the context.
func (p *Pool) limitReplays(ctx context.Context, connected func(net.Conn)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	connections := 0
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connected(info.Conn)
		c, shared := p.ConnBelowTLS(info.Conn)
		if u, ok := c.(*Conn); ok && !shared {
			u.BeginRequest(nil)
		}
		connections++
		if connections <= 2 || shared && connections <= MaxUnprocessed {
			return
		}
		cancel(ErrReplayed)
		if !shared {
			_ = c.Close() // before the first byte is written
		}
	}})
	return traced, func() { cancel(nil) }
}
