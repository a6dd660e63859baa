// Package proxy is the request path: it finds the route of a request, asks the route's breaker, and sends the request to the
// upstream or answers with the fallback.
//
// Server.ServeHTTP validates a request and finds its route in an immutable snapshot; Server.serve asks the breaker and the
// limits on requests in flight; httputil.ReverseProxy forwards the request, with roundTripper as its transport, which makes one
// or more attempts and evaluates each response. Each attempt is reported to the breaker once, when its outcome is known, unless an
// attempt at another endpoint follows it; exchange.finish reports the request once, to metrics, log and trace.
package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/internal/requestlog"
	"cbproxy/internal/response"
	"cbproxy/internal/service"
	"cbproxy/internal/tunnel"
	"cbproxy/routes"
)

// Config is what a Server is made from. All fields but Breakers, Access, Tracer and StrategyProvider are required.
type Config struct {
	Bus       *events.Bus
	Observers service.Observers
	// Breakers is the registry that the server adds its services' breakers to; nil: one of its own.
	Breakers *breaker.Registry
	// Access logs each request at its end; nil: requests are not logged.
	Access events.AccessLog
	// Tracer makes the requests' spans; nil: there are none.
	Tracer events.Tracer
	// StrategyProvider is fallbacks.Env.Provider.
	StrategyProvider any
	// RecordCalls is service.Config.RecordCalls.
	RecordCalls func(service string) func(events.Call)
	Logger      *slog.Logger
	// Instance is the proxy's name in Via, which must be unique. Empty: a random name.
	Instance string
}

// Server is the http.Handler of the data plane. Apply may be called while requests are served; each request keeps the
// configuration that it began with.
type Server struct {
	*service.Manager                  // Apply, Close, Deliver and other methods that are not for requests
	access           events.AccessLog // nil: requests are not logged
	tracer           events.Tracer    // nil: requests are not traced
	via              *message.Via
	proxy            *httputil.ReverseProxy
	tunnels          tunnel.Group // requests whose connections have been switched to another protocol
}

// New returns a Server that answers 404 to every request until Apply is called.
func New(c Config) *Server {
	via := message.NewVia(c.Instance)
	return &Server{
		Manager: service.NewManager(service.Config{
			Bus: c.Bus, Observers: c.Observers, Breakers: c.Breakers, Tracer: c.Tracer, StrategyProvider: c.StrategyProvider,
			RecordCalls: c.RecordCalls, Logger: c.Logger, Via: via,
		}),
		access: c.Access, tracer: c.Tracer, via: via,
		proxy: &httputil.ReverseProxy{
			Rewrite:      rewrite,
			Transport:    roundTripper{},
			ErrorHandler: errorHandler,
			BufferPool:   response.CopyBuffers{},
			ErrorLog:     slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
		},
	}
}

// DrainTunnels waits until no connection is switched to another protocol any more, or ctx is done. It is called after
// http.Server.Shutdown, which does not wait for those.
func (s *Server) DrainTunnels(ctx context.Context) error { return s.tunnels.Drain(ctx) }

// ServeHTTP serves one request of the data plane, whose path selects the route.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serveRequest(w, r, "") }

// ListenerHandler returns the handler of the own listener with a key, see routes.Route.ListenerKey. All its requests belong to
// the service that has the listener. An empty key is that of s itself.
func (s *Server) ListenerHandler(key string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveRequest(w, r, key) })
}

// serveRequest serves one request. listenerKey is that of the service's own listener, or "".
func (s *Server) serveRequest(w http.ResponseWriter, r *http.Request, listenerKey string) {
	snap := s.Acquire()
	defer snap.Release()
	path := message.RawPath(r)
	p := message.Validate(r, path, int(snap.Limits.HeaderBytes)) // before a tracer adds to the header section
	if s.tracer != nil || s.enabledLog() != nil {
		w = requestlog.New(w, r, path, s.enabledLog(), s.tracer)
	}
	if p == nil && s.via.Contains(r.Header) {
		p = problem.LoopDetected
	}
	if p != nil {
		respondUnrouted(w, p)
		return
	}
	message.RemoveOtherUpgrades(r)
	m := snap.Match(path, listenerKey)
	if m.Route == nil {
		respondUnrouted(w, problem.NotFound)
		return
	}
	if rec, ok := w.(*requestlog.Recorder); ok {
		rec.Record.Prefix = m.Prefix(path)
	}
	s.serve(w, r, m.Route, path, m.Stripped(), snap.Limits)
}

// enabledLog returns the access log, nil if it is not enabled, which a reload may change.
func (s *Server) enabledLog() events.AccessLog {
	if s.access == nil || !s.access.Enabled() {
		return nil
	}
	return s.access
}

// logInvalidRequest logs a request that the HTTP server has answered itself, because its header section is malformed or
// ambiguous. Only the client's address is known.
func (s *Server) logInvalidRequest(client string, status int) {
	if log := s.enabledLog(); log != nil {
		log.Log(&events.AccessRecord{Arrived: time.Now(), Client: client, Status: status})
	}
}

// NewHTTPServer returns an HTTP server configured by c.Server and c.Limits. Its handler is s for an empty key, and ListenerHandler(key)
// otherwise.
func NewHTTPServer(s *Server, key string, c *routes.Config, logger *slog.Logger) *httpserver.Server {
	return httpserver.New(httpserver.Options{
		Handler:           s.ListenerHandler(key),
		OnInvalidRequest:  s.logInvalidRequest,
		Logger:            logger,
		HeaderBytes:       int64(c.Limits.HeaderBytes),
		ReadHeaderTimeout: c.Limits.ReadHeaderTimeout,
		IdleTimeout:       c.Limits.IdleTimeout,
		NetHTTPOnly:       c.Server == "net_http",
	})
}
