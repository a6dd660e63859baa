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
	if s.netHTTPListener.fast == nil {
		return s.netHTTP.Serve(l)
	}
	s.netHTTPListener.Listener = l
	go s.netHTTPListener.acceptLoop()
	return s.netHTTP.Serve(s.netHTTPListener)
}

// Shutdown stops accepting connections and waits until all requests have their response, or until ctx is done, and then
// returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.beginShutdown()
	if s.netHTTPListener.fast == nil {
		return s.netHTTP.Shutdown(ctx)
	}
	var fastErr error
	var running sync.WaitGroup
	running.Go(func() { fastErr = s.netHTTPListener.fast.Shutdown(ctx) })
	err := s.netHTTP.Shutdown(ctx)
	running.Wait()
	return errors.Join(err, fastErr)
}

// Close closes all connections.
func (s *Server) Close() error {
	s.beginShutdown()
	if s.netHTTPListener.fast != nil {
		defer s.netHTTPListener.fast.Close()
	}
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
