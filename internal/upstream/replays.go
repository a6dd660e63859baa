package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
)

// MaxUnprocessed is the maximum number of times that a request is sent over HTTP/2 while the upstream reports that it has not
// processed it.
const MaxUnprocessed = 4

// The errors of ReplayLimit, which are the cancellation causes of requests.
var (
	ErrReplayed    = errors.New("two consecutive connections were closed before a response")
	ErrUnprocessed = fmt.Errorf("the upstream refused the stream %d times without processing the request", MaxUnprocessed)
)

// ReplayLimit limits how often http.Transport sends one request. http.Transport itself has no limit: it tries a request that is
// safe to repeat, such as one with an Idempotency-Key, on every closed connection of the pool. The limit is:
//
//   - over HTTP/1.1, one replay, even if the request has several attempts: an idle connection can turn out to be closed when the
//     request is sent;
//   - over HTTP/2, where http.Transport only repeats what the upstream has not processed, MaxUnprocessed times in each attempt.
//
// The zero ReplayLimit is ready for use. It is not safe for concurrent use.
type ReplayLimit struct {
	conns    int  // connections that the current attempt was given
	replayed bool // an attempt was given a second HTTP/1.1 connection
}

// BeginAttempt is called before an attempt that is not a replay by http.Transport.
func (l *ReplayLimit) BeginAttempt() { l.conns = 0 }

// Connected reports whether the current attempt was given a connection.
func (l *ReplayLimit) Connected() bool { return l.conns > 0 }

// GotConn counts a connection that the request was given. The error is ErrReplayed or ErrUnprocessed if the request must not be
// sent on it.
func (l *ReplayLimit) GotConn(multiplexed bool) error {
	l.conns++
	switch {
	case multiplexed && l.conns > MaxUnprocessed:
		return ErrUnprocessed
	case multiplexed:
		return nil
	case l.conns > 1 && l.replayed:
		return ErrReplayed
	}
	l.replayed = l.replayed || l.conns > 1
	return nil
}

// limitReplays returns a context with which an http.Transport sends one request within the limits of a ReplayLimit. connected is
// called with each connection that the request gets, on the goroutine that sends the request. The caller must cancel the context.
func (p *Pool) limitReplays(ctx context.Context, connected func(net.Conn)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	var limit ReplayLimit
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connected(info.Conn)
		c, multiplexed := p.ConnBelowTLS(info.Conn)
		if u, ok := c.(*Conn); ok && !multiplexed {
			u.BeginRequest(nil)
		}
		err := limit.GotConn(multiplexed)
		if err == nil {
			return
		}
		cancel(err)
		if !multiplexed {
			_ = c.Close() // before the first byte is written
		}
	}})
	return traced, func() { cancel(nil) }
}
