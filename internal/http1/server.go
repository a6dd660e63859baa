package http1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ServerConfig is what a Server needs. Handler and Fallback are required.
type ServerConfig struct {
	Handler http.Handler
	// Fallback is given a connection with the first request on it that is not plain, and all that was read
	// of that one. From then on the connection is its own.
	Fallback func(c net.Conn, unread []byte)
	// ConnContext makes a connection's context; nil: it is the background.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	// FirstRequestTimeout is how long a new connection may be silent, and IdleTimeout one that has been
	// answered; 0: for ever.
	FirstRequestTimeout, IdleTimeout time.Duration
	OnPanic                          func(value any) // is told of a handler's panic, unless it is http.ErrAbortHandler; nil: nobody is
}

// Server answers plain requests of HTTP/1.1 on one goroutine a connection, where net/http's server has one more
// for each request: those that are at most readSize bytes long, have their header section whole in what one read gives and
// their body within bodyPatience, and leave no room for interpretation. It decides nothing that is doubtful: a connection
// on which anything else comes is given away with it, and stays so.
//
// To a handler it is like net/http's server, save that the request of a client that has left, or will say no more, ends
// answerPatience later. Only Linux tells of those: elsewhere all connections are given away.
type Server struct {
	config   ServerConfig
	draining atomic.Bool
	lookout  *lookout

	mu    sync.Mutex
	conns map[int]*serverConn // by descriptor
	gone  sync.Cond           // signalled when a connection is no more the server's
}

// NewServer returns a Server that has no connection.
func NewServer(c ServerConfig) *Server {
	s := &Server{config: c, conns: map[int]*serverConn{}}
	s.gone.L = &s.mu
	s.lookout = newLookout(s.overhear)
	return s
}

// ServeConn answers requests on c until it ends or is given away. Safe for concurrent use.
func (s *Server) ServeConn(c net.Conn) {
	n := newServerConn(s, c)
	if n == nil || !s.know(n) {
		s.config.Fallback(c, nil)
		return
	}
	n.serve()
}

// know reports whether c has become one of the server's connections.
func (s *Server) know(c *serverConn) bool {
	var err error
	closed := c.socket.Control(func(fd uintptr) { // which stays c's
		c.fd = int(fd) // #nosec G115 -- a descriptor
		s.mu.Lock()
		s.conns[c.fd] = c
		s.mu.Unlock()
		err = s.lookout.watch(c.fd)
	})
	if closed == nil && (err == nil || s.draining.Load()) { // at the end there may be no lookout any more
		return true
	}
	s.forget(c)
	return false
}

// overhear is told by the lookout that what is now fd has come to an end, or what was.
func (s *Server) overhear(fd int) {
	s.mu.Lock() // so that c is not given away meanwhile
	defer s.mu.Unlock()
	if c := s.conns[fd]; c != nil {
		c.overhear()
	}
}

// each calls do with each connection. do must not wait.
func (s *Server) each(do func(*serverConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		do(c)
	}
}

// forget is called by a connection that is to be closed, or given away.
func (s *Server) forget(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.fd] == c {
		delete(s.conns, c.fd)
	}
	s.gone.Broadcast()
}

// Shutdown ends each connection as soon as no request is being answered on it, and waits for that.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone.Broadcast()
	})
	defer stop()
	s.each((*serverConn).endIdle) // and whoever comes later sees that it is draining
	if !s.awaitDesertion(ctx) {
		return ctx.Err()
	}
	s.lookout.close() // which waits for the end of what it is telling
	return nil
}

// awaitDesertion waits until there is no connection, or ctx is done, and reports whether there is none.
func (s *Server) awaitDesertion(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 && ctx.Err() == nil {
		s.gone.Wait()
	}
	return len(s.conns) == 0
}

// Close cuts all connections, and ends the contexts of their requests.
func (s *Server) Close() {
	s.draining.Store(true)
	s.each((*serverConn).cut)
	s.lookout.close()
}
