package httpserver

import (
	"net"
	"sync"

	"cbproxy/internal/http1"
)

// fallbackListener is the listener of net/http's server. Its Accept returns the connections that the fast path has
// passed on.
type fallbackListener struct {
	net.Listener               // accepts all connections
	fast         *http1.Server // nil: net/http's server handles every connection
	passedOn     chan net.Conn
	failed       chan error // errors of Listener.Accept
	close        sync.Once
	closed       chan struct{}
}

func newFallbackListener() *fallbackListener {
	return &fallbackListener{passedOn: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
}

// acceptLoop accepts connections and starts the fast path on each. It passes an error of the listener to Accept, because
// net/http's server decides whether to retry.
func (l *fallbackListener) acceptLoop() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			go l.fast.ServeConn(c)
			continue
		}
		select {
		case l.failed <- err:
		case <-l.closed:
			return
		}
	}
}

// passOn hands a connection with its unread bytes to net/http's server.
func (l *fallbackListener) passOn(nc net.Conn, unread []byte) {
	if c, ok := nc.(*Conn); ok {
		c.serving.Store(false)
		c.unread = unread
	}
	select {
	case l.passedOn <- nc:
	case <-l.closed:
		_ = nc.Close() // the server has shut down
	}
}

// Accept implements net.Listener.
func (l *fallbackListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.passedOn:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *fallbackListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
