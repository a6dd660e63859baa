package httpserver

import (
	"context"
	"net"
	"time"

	"cbproxy/internal/listen"
)

// listener returns each accepted connection as a *Conn.
type listener struct{ *listen.Listener }

// Wrap returns a listener for a Server.
func Wrap(l *listen.Listener) net.Listener { return listener{l} }

// Listen listens on an address of the form that listen.Parse accepts.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	a, err := listen.Parse(address)
	if err != nil {
		return nil, err
	}
	l, err := listen.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	return listener{l}, nil
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c}, nil
}

// maxAcceptLast limits how long acceptLast accepts connections.
const maxAcceptLast = time.Second

// acceptLast calls serve with the connections that clients have opened and that have not been accepted: closing the listener
// would reset them. It does nothing if another process will accept them.
func acceptLast(l net.Listener, serve func(net.Conn)) {
	own, ok := l.(listener)
	if !ok || own.Shared {
		return
	}
	end := time.Now().Add(maxAcceptLast)
	if own.SetDeadline(end) != nil {
		return
	}
	for own.HasPending() && time.Now().Before(end) {
		c, err := l.Accept()
		if err != nil {
			return
		}
		serve(c)
	}
}

// interruptAccept makes a running Accept return, and all later ones.
func interruptAccept(l net.Listener) {
	own, ok := l.(listener)
	if !ok {
		_ = l.Close()
		return
	}
	if own.SetDeadline(longAgo) != nil {
		_ = l.Close()
	}
}

var longAgo = time.Unix(1, 0)
