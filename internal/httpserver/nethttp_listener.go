package httpserver

import (
	"net"
	"sync"

	"cbproxy/internal/http1"
)

// netHTTPListener is the listener of net/http's server. Its Accept returns the connections that the fast path has
// handed off.
type netHTTPListener struct {
	net.Listener               // accepts all connections
	fast         *http1.Server // nil: net/http's server handles every connection
	handedOff    chan net.Conn
	failed       chan error // errors of Listener.Accept
	close        sync.Once
	closed       chan struct{}
}

func newNetHTTPListener() *netHTTPListener {
	return &netHTTPListener{handedOff: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
}

// acceptLoop accepts connections and starts the fast path on each. It passes an error of the listener to Accept, because
// net/http's server decides whether to retry.
func (l *netHTTPListener) acceptLoop() {
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

// handOff passes a connection with its unread bytes to net/http's server. It waits until the server calls Accept, which takes up
// to a second after an error of the listener: net/http's server sleeps before it calls Accept again. So while the process has no
// free file descriptor, the first request on a connection that needs net/http's server may be delayed by that time.
func (l *netHTTPListener) handOff(nc net.Conn, unread []byte) {
	if c, ok := nc.(*Conn); ok {
		c.handlerRunning.Store(false)
		c.unread = unread
	}
	select {
	case l.handedOff <- nc:
	case <-l.closed:
		_ = nc.Close() // the server has shut down
	}
}

// Accept implements net.Listener.
func (l *netHTTPListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.handedOff:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *netHTTPListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
