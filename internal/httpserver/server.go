package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"cbproxy/internal/http1"
)

// headerMargin is how many bytes a header section may exceed Options.HeaderBytes and still reach the handler, which
// can then respond with the details of the route. net/http responds to larger ones itself.
const headerMargin = 256 << 10

// Options configure a Server. Handler and Logger are required.
type Options struct {
	Handler http.Handler
	// OnInvalidRequest is called for each invalid request, which does not reach Handler, with the client's address and the status
	// of the response. It may be nil, and is called concurrently.
	OnInvalidRequest func(client string, status int)
	Logger           *slog.Logger
	// HeaderBytes is the largest header section that the handler accepts.
	HeaderBytes int64
	// ReadHeaderTimeout limits how long a client may take to send a header section.
	ReadHeaderTimeout time.Duration
	// IdleTimeout limits how long a connection may be without a request, and how long a write to a client may block.
	IdleTimeout time.Duration
	// NetHTTPOnly disables the fast path.
	NetHTTPOnly bool
}

// Server serves HTTP/1.1 and HTTP/2 without TLS. Plain HTTP/1.1 requests are served by an http1.Server, all others by
// net/http's server.
type Server struct {
	netHTTP         *http.Server
	netHTTPListener *netHTTPListener
	beginShutdown   context.CancelFunc // ends the context that ShutdownContext returns
}

// New returns a server. It should be used with a listener made by Listen: connections of other listeners do not have what
// Conn adds.
func New(o Options) *Server {
	if o.OnInvalidRequest == nil {
		o.OnInvalidRequest = func(string, int) {}
	}
	shutdown, beginShutdown := context.WithCancel(context.Background())
	withConn := func(ctx context.Context, c net.Conn) context.Context {
		ctx = context.WithValue(ctx, shutdownKey{}, shutdown)
		return connContext(ctx, c, o.IdleTimeout, o.OnInvalidRequest)
	}
	h := handler{o.Handler, o.OnInvalidRequest}
	s := &Server{netHTTP: newNetHTTPServer(o, h, withConn), netHTTPListener: newNetHTTPListener(), beginShutdown: beginShutdown}
	if !o.NetHTTPOnly {
		s.netHTTPListener.fast = http1.NewServer(http1.ServerConfig{
			Handler: h,
			HandOff: s.netHTTPListener.handOff,
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				// the values that net/http's server sets
				ctx = context.WithValue(ctx, http.ServerContextKey, s.netHTTP)
				return withConn(context.WithValue(ctx, http.LocalAddrContextKey, c.LocalAddr()), c)
			},
			FirstRequestTimeout: o.ReadHeaderTimeout,
			IdleTimeout:         o.IdleTimeout,
			OnPanic: func(value any) {
				o.Logger.Error("panic while serving a request", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
			},
		})
	}
	return s
}

func newNetHTTPServer(o Options, h http.Handler, withConn func(context.Context, net.Conn) context.Context) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:                      h,
		Protocols:                    protocols,
		ReadHeaderTimeout:            o.ReadHeaderTimeout,
		IdleTimeout:                  o.IdleTimeout,
		MaxHeaderBytes:               int(o.HeaderBytes) + headerMargin,
		DisableGeneralOptionsHandler: true,
		ConnState:                    connStateChanged,
		ConnContext:                  withConn,
		// Without a limit, a client that reads nothing could hold an HTTP/2 connection open indefinitely.
		HTTP2:    &http.HTTP2Config{WriteByteTimeout: o.IdleTimeout},
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
}

// Serve accepts connections from l and serves them until Shutdown or Close is called. It then returns
// http.ErrServerClosed. Serve must be called only once.
func (s *Server) Serve(l net.Listener) error {
	s.netHTTPListener.start(l)
	return s.run()
}

// run serves the connections of the listener that has been started.
func (s *Server) run() error {
	err := s.netHTTP.Serve(s.netHTTPListener)
	s.netHTTPListener.end() // net/http's server accepts no more connections
	if !errors.Is(err, http.ErrServerClosed) {
		s.netHTTPListener.stop()
	}
	return err
}

// StopAccepting closes the listener. Connections that clients have opened already are still served.
func (s *Server) StopAccepting() { s.netHTTPListener.stop() }

// Shutdown stops accepting connections and waits until all requests have their response, or until ctx is done, and then
// returns the context's error. A connection that has had no request yet may wait for its first one, for about a second.
func (s *Server) Shutdown(ctx context.Context) error {
	s.StopAccepting()
	s.beginShutdown()
	s.netHTTP.SetKeepAlivesEnabled(false) // closes idle connections
	var fastErr error
	var running sync.WaitGroup
	if fast := s.netHTTPListener.fast; fast != nil {
		running.Go(func() { fastErr = fast.Shutdown(ctx) })
	}
	s.awaitFirstRequests(ctx)
	err := s.netHTTP.Shutdown(ctx)
	running.Wait()
	return errors.Join(err, fastErr)
}

// firstRequestsGrace limits awaitFirstRequests. It is longer than the fast path waits for first requests.
const firstRequestsGrace = 1500 * time.Millisecond

// awaitFirstRequests waits until net/http's server has the header section of the first request on each connection, and gets no
// more connections from the fast path, but for at most firstRequestsGrace: once net/http's server shuts down, it closes a
// connection when it has read a header section.
func (s *Server) awaitFirstRequests(ctx context.Context) {
	drained := make(chan struct{})
	go func() { s.netHTTPListener.connections.Wait(); close(drained) }()
	end := time.After(firstRequestsGrace)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	select {
	case <-drained:
	case <-end:
		return
	case <-ctx.Done():
		return
	}
	for s.netHTTPListener.pending.Load() > 0 {
		select {
		case <-tick.C:
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Close closes all connections.
func (s *Server) Close() error {
	s.beginShutdown()
	if s.netHTTPListener.fast != nil {
		defer s.netHTTPListener.fast.Close()
	}
	defer s.netHTTPListener.stop()
	s.netHTTPListener.end()
	return s.netHTTP.Close()
}

type shutdownKey struct{}

// ShutdownContext returns a context that ends when the server of a request begins to shut down. ctx is the request's context.
func ShutdownContext(ctx context.Context) context.Context {
	if shutdown, ok := ctx.Value(shutdownKey{}).(context.Context); ok {
		return shutdown
	}
	return context.Background()
}
