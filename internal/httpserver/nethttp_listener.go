package httpserver

import (
	"net"
	"sync"
	"sync/atomic"

	"cbproxy/internal/http1"
)

// netHTTPListener is the listener of net/http's server. It accepts all connections; its Accept returns those that the fast path
// has handed off.
type netHTTPListener struct {
	net.Listener               // accepts all connections
	fast         *http1.Server // nil: net/http's server handles every connection
	handedOff    chan net.Conn
	failed       chan error // errors of Listener.Accept

	mu          sync.Mutex    // guards Listener and stopped until acceptLoop runs
	stopped     bool          // no more connections are to be accepted
	stopping    chan struct{} // closed when stopped is set
	readyOnce   sync.Once
	ready       chan struct{}  // closed when net/http's server calls Accept
	accepting   sync.WaitGroup // acceptLoop
	connections sync.WaitGroup // of the fast path
	pending     atomic.Int64   // connections that net/http's server gets or has, without the header section of a first request there
	closeOnce   sync.Once
	closed      chan struct{} // closed when net/http's server gets no more connections
}

func newNetHTTPListener() *netHTTPListener {
	return &netHTTPListener{
		handedOff: make(chan net.Conn), failed: make(chan error), stopping: make(chan struct{}), ready: make(chan struct{}), closed: make(chan struct{}),
	}
}

// start begins to accept connections from all, or closes it if stop has been called.
func (l *netHTTPListener) start(all net.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		_ = all.Close()
		return
	}
	l.Listener = all
	l.accepting.Go(l.acceptLoop)
}

// acceptLoop accepts connections until stop is called. It passes an error of the listener to Accept, because net/http's server
// decides whether to retry.
func (l *netHTTPListener) acceptLoop() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			l.serve(c)
			continue
		}
		select {
		case <-l.stopping:
			acceptLast(l.Listener, l.serve)
			_ = l.Listener.Close()
			return
		default:
		}
		select {
		case l.failed <- err:
		case <-l.stopping:
		}
	}
}

// serve starts the fast path on a connection.
func (l *netHTTPListener) serve(c net.Conn) {
	if l.fast == nil {
		l.handOff(c, nil)
		return
	}
	l.connections.Go(func() { l.fast.ServeConn(c) })
}

// handOff passes a connection with its unread bytes to net/http's server. It waits until the server calls Accept, which takes up
// to a second after an error of the listener: net/http's server sleeps before it calls Accept again. So while the process has no
// free file descriptor, the first request on a connection that needs net/http's server may be delayed by that time.
func (l *netHTTPListener) handOff(nc net.Conn, unread []byte) {
	if c, ok := nc.(*Conn); ok {
		c.handlerRunning.Store(false)
		c.unread = unread
		l.pending.Add(1)
		c.pending = &l.pending
	}
	select {
	case l.handedOff <- nc:
	case <-l.closed:
		_ = nc.Close() // the server has shut down
	}
}

// stop closes the listener of all connections, after it has accepted those that clients have opened already. The connections of
// the fast path can still be handed off.
func (l *netHTTPListener) stop() {
	l.mu.Lock()
	if !l.stopped {
		l.stopped = true
		close(l.stopping)
		if l.Listener != nil {
			interruptAccept(l.Listener)
		}
	}
	isStarted := l.Listener != nil
	l.mu.Unlock()
	if isStarted {
		select { // if net/http's server is shut down before, it never calls Accept
		case <-l.ready:
		case <-l.closed:
		}
	}
	l.accepting.Wait()
}

// end ends Accept.
func (l *netHTTPListener) end() { l.closeOnce.Do(func() { close(l.closed) }) }

// Accept implements net.Listener.
func (l *netHTTPListener) Accept() (net.Conn, error) {
	l.readyOnce.Do(func() { close(l.ready) })
	select {
	case c := <-l.handedOff:
		return c, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It ends Accept only: the listener of all connections is closed by stop.
func (l *netHTTPListener) Close() error {
	l.end()
	return nil
}
