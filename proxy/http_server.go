package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"

	"cbproxy/internal/http1"
	"cbproxy/routes"
)

// headerSlack is how far a header section may be over the limit and still be answered with
// the route's own problem; beyond that net/http refuses it.
const headerSlack = 256 << 10

// HTTPServer is the data plane's server: HTTP/1.1 and HTTP/2 without TLS, on one port. Plain requests of HTTP/1.1
// are answered by an http1.Server, and everything else by net/http's.
type HTTPServer struct {
	rest  *http.Server
	sieve sieve
	drain context.CancelFunc // tells requests that Shutdown has been called
}

// NewHTTPServer returns a server. It is to be given a listener that Listen has made: on other connections it does
// without what clientConn does.
func NewHTTPServer(handler http.Handler, c *routes.Config, logger *slog.Logger) *HTTPServer {
	limits := c.Limits
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	told := func(string, int) {}
	if s, ok := handler.(*Server); ok {
		told = s.refused
	}
	served := clientHandler{handler, told}
	draining, drain := context.WithCancel(context.Background())
	adopted := func(ctx context.Context, c net.Conn) context.Context {
		ctx = context.WithValue(ctx, drainingKey{}, draining)
		return adopt(ctx, c, limits.IdleTimeout, told)
	}
	s := &HTTPServer{drain: drain, rest: &http.Server{
		Handler:                      served,
		Protocols:                    protocols,
		ReadHeaderTimeout:            limits.ReadHeaderTimeout,
		IdleTimeout:                  limits.IdleTimeout,
		MaxHeaderBytes:               int(limits.HeaderBytes) + headerSlack,
		DisableGeneralOptionsHandler: true,
		ConnState:                    stateChanged,
		ConnContext:                  adopted,
		// A client that takes no bytes would hold a connection for ever.
		HTTP2:    &http.HTTP2Config{WriteByteTimeout: limits.IdleTimeout},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}}
	s.sieve = sieve{given: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
	if c.Server == "net_http" {
		return s
	}
	s.sieve.plain = http1.NewServer(http1.ServerConfig{
		Handler: served,
		Rest:    s.sieve.give,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { // as net/http's server has it
			ctx = context.WithValue(ctx, http.ServerContextKey, s.rest)
			return adopted(context.WithValue(ctx, http.LocalAddrContextKey, c.LocalAddr()), c)
		},
		FirstTimeout: limits.ReadHeaderTimeout,
		IdleTimeout:  limits.IdleTimeout,
		Panicked: func(value any) {
			logger.Error("panic while serving a request", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
		},
	})
	return s
}

// Serve accepts connections from l and serves them until Shutdown or Close, and then returns http.ErrServerClosed. It
// is called once.
func (s *HTTPServer) Serve(l net.Listener) error {
	if s.sieve.plain == nil {
		return s.rest.Serve(l)
	}
	s.sieve.Listener = l
	go s.sieve.accept()
	return s.rest.Serve(&s.sieve)
}

// Shutdown accepts no more connections and waits until no request is being answered, or ctx is done, whose error it returns
// then.
func (s *HTTPServer) Shutdown(ctx context.Context) error {
	s.drain()
	if s.sieve.plain == nil {
		return s.rest.Shutdown(ctx)
	}
	var plain error
	var running sync.WaitGroup
	running.Go(func() { plain = s.sieve.plain.Shutdown(ctx) })
	err := s.rest.Shutdown(ctx)
	running.Wait()
	return errors.Join(err, plain)
}

// Close cuts all connections.
func (s *HTTPServer) Close() error {
	s.drain()
	if s.sieve.plain != nil {
		defer s.sieve.plain.Close()
	}
	return s.rest.Close()
}

// sieve is the listener of net/http's server: the connections on which something has come that is not plain.
type sieve struct {
	net.Listener
	plain  *http1.Server // nil: there is no need to sift
	given  chan net.Conn
	failed chan error // of the listener
	close  sync.Once
	closed chan struct{}
}

// accept has connections served. An error of the listener waits for net/http, which knows what to do about it.
func (s *sieve) accept() {
	for {
		c, err := s.Listener.Accept()
		if err == nil {
			go s.plain.ServeConn(c)
			continue
		}
		select {
		case s.failed <- err:
		case <-s.closed:
			return
		}
	}
}

// give is an http1.Server's Rest.
func (s *sieve) give(c net.Conn, unread []byte) {
	if known, ok := c.(*clientConn); ok {
		known.serving.Store(false)
		known.unread = unread
	}
	select {
	case s.given <- c:
	case <-s.closed:
		_ = c.Close() // its request is too late
	}
}

// Accept implements net.Listener.
func (s *sieve) Accept() (net.Conn, error) {
	select {
	case c := <-s.given:
		return c, nil
	case err := <-s.failed:
		return nil, err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *sieve) Close() error {
	s.close.Do(func() { close(s.closed) })
	return s.Listener.Close()
}
