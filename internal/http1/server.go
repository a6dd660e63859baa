package http1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ServerConfig configures a Server. Handler and HandOff are required.
type ServerConfig struct {
	Handler http.Handler
	// HandOff takes over a connection at the first request on it that is not plain. unread has all bytes of that request
	// that have been read. HandOff owns the connection from then on.
	HandOff func(c net.Conn, unread []byte)
	// ConnContext returns the context of a connection's requests. Nil: they use context.Background.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	// FirstRequestTimeout limits the wait for the first request on a connection, IdleTimeout the wait for each later one.
	// 0: there is no limit.
	FirstRequestTimeout, IdleTimeout time.Duration
	// OnPanic is called with the value of a handler's panic, except for http.ErrAbortHandler. It may be nil.
	OnPanic func(value any)
}

// Server serves plain HTTP/1.1 requests on one goroutine per connection; net/http's server uses one more for each request.
// A request is plain if it is at most readSize bytes long, a single read returns its whole header section, its body arrives
// within bodyTimeout, and all recipients understand it alike. At the first other request it hands off the connection
// to another server, which keeps it.
//
// Handlers see the same behaviour as with net/http's server, with one difference: the context of a request whose client has
// disconnected, or closed its side of the connection, ends hangupGrace later. This detection needs Linux. On other systems all
// connections are handed off.
//
// A Server is safe for concurrent use.
type Server struct {
	config       ServerConfig
	shuttingDown atomic.Bool
	hangups      *hangupMonitor

	mu      sync.Mutex          // guards conns
	conns   map[int]*serverConn // by descriptor
	removed sync.Cond           // signalled when a connection is removed from conns
}

// NewServer returns a Server without connections.
func NewServer(c ServerConfig) *Server {
	s := &Server{config: c, conns: map[int]*serverConn{}}
	s.removed.L = &s.mu
	s.hangups = newHangupMonitor(s.peerClosed)
	return s
}

// ServeConn serves requests on c until the connection ends or is handed off.
func (s *Server) ServeConn(c net.Conn) {
	n := newServerConn(s, c)
	if n == nil || !s.register(n) {
		s.config.HandOff(c, nil)
		return
	}
	n.serve()
}

// register adds c to the server's connections. It reports false if the connection can't be watched.
func (s *Server) register(c *serverConn) bool {
	var err error
	closed := c.socket.Control(func(fd uintptr) { // the descriptor is valid until c is closed
		c.fd = int(fd) // #nosec G115 -- a descriptor
		s.mu.Lock()
		s.conns[c.fd] = c
		s.mu.Unlock()
		err = s.hangups.watch(c.fd)
	})
	if closed == nil && (err == nil || s.shuttingDown.Load()) { // during shutdown the monitor may already be closed
		return true
	}
	s.unregister(c)
	return false
}

// unregister removes a connection that is about to be closed or handed off.
func (s *Server) unregister(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.fd] == c {
		delete(s.conns, c.fd)
	}
	s.removed.Broadcast()
}

// peerClosed handles an event of the hangup monitor. The descriptor may have been reused since.
func (s *Server) peerClosed(fd int) {
	s.mu.Lock() // keeps c from being handed off meanwhile
	defer s.mu.Unlock()
	if c := s.conns[fd]; c != nil {
		c.peerClosed()
	}
}

// forEachConn calls f with each connection. f must not block.
func (s *Server) forEachConn(f func(*serverConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		f(c)
	}
}

// Shutdown closes each connection as soon as no request is being served on it, and waits until all are closed. A connection that
// has had no request yet may wait a second for its first one. Shutdown returns the error of ctx if that ends first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.shuttingDown.Store(true)
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.removed.Broadcast()
	})
	defer stop()
	s.forEachConn((*serverConn).endIdle) // connections that are registered later check shuttingDown
	if !s.waitIdle(ctx) {
		return ctx.Err()
	}
	s.hangups.close() // waits for a running peerClosed
	return nil
}

// waitIdle waits until there are no connections or ctx ends. It reports whether there are none.
func (s *Server) waitIdle(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 && ctx.Err() == nil {
		s.removed.Wait()
	}
	return len(s.conns) == 0
}

// Close aborts all connections and cancels the contexts of their requests.
func (s *Server) Close() {
	s.shuttingDown.Store(true)
	s.forEachConn((*serverConn).abort)
	s.hangups.close()
}
