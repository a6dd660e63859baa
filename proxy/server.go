// Package proxy is the request path: it finds the route of a request, asks the route's breaker, and sends the request to the
// upstream or answers with the fallback.
//
// Server.ServeHTTP validates a request and finds its route in an immutable snapshot; route.serve asks the breaker and the
// limits on requests in flight; httputil.ReverseProxy forwards the request, with route.RoundTrip as its transport, which makes
// one or more attempts and evaluates each response; exchange.finish reports the outcome exactly once.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/limit"
	"cbproxy/internal/message"
	"cbproxy/routes"
)

// Observers makes an Observer for each service. Forget is called when a service is removed.
type Observers interface {
	Service(name string) events.Observer
	Forget(name string)
}

// Config is what a Server is made from. All fields but Breakers, Access, Tracer and Host are required.
type Config struct {
	Bus       *events.Bus
	Observers Observers
	// Breakers is the registry that the server adds its services' breakers to; nil: one of its own.
	Breakers *breaker.Registry
	// Access logs each request at its end; nil: requests are not logged.
	Access events.AccessLog
	// Tracer makes the requests' spans; nil: there are none.
	Tracer events.Tracer
	// Host is fallbacks.Env.Host.
	Host   any
	Logger *slog.Logger
	// Instance is the proxy's name in Via, which must be unique. Empty: a random name.
	Instance string
}

// Server is the http.Handler of the data plane. Apply may be called while requests are served; each request keeps the
// configuration that it began with.
type Server struct {
	config   Config
	via      *message.Via
	snapshot atomic.Pointer[snapshot]

	tunnels  sync.WaitGroup    // requests whose connections have been switched to another protocol
	inFlight limit.Concurrency // of all requests that are sent upstream, if max_in_flight is set

	mu       sync.Mutex // guards services; held during Apply
	services map[string]*service
}

// New returns a Server that answers 404 to every request until Apply is called.
func New(c Config) *Server {
	if c.Breakers == nil {
		c.Breakers = breaker.NewRegistry(breaker.RegistryHooks{})
	}
	s := &Server{config: c, via: message.NewVia(c.Instance), services: map[string]*service{}}
	s.snapshot.Store(newSnapshot(nil, routes.Limits{}))
	return s
}

// Apply puts c into effect, completely or, with an error, not at all. Breakers of services that stay keep their state and
// counts.
func (s *Server) Apply(c *routes.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	services := make(map[string]*service, len(c.Routes))
	built := make([]*route, 0, len(c.Routes))
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		r, err := s.build(name, c)
		if err != nil {
			return fmt.Errorf("build routes.%s: %w", name, err)
		}
		services[name] = r.service
		built = append(built, r)
	}
	for _, r := range built {
		s.activate(r)
	}
	old := s.snapshot.Swap(newSnapshot(built, c.Limits))
	for name, gone := range s.services {
		if services[name] == nil {
			gone.close()
			s.config.Breakers.Remove(name)
			s.config.Observers.Forget(name)
		}
	}
	s.services = services
	old.retire(built)
	return nil
}

// build returns the route of a service, new or existing, and changes nothing that is in effect.
func (s *Server) build(name string, c *routes.Config) (*route, error) {
	r := newRoute(c.Routes[name], c)
	r.logger, r.tracer = s.config.Logger, s.config.Tracer
	r.tunnels, r.proxyInFlight, r.via = &s.tunnels, &s.inFlight, s.via
	logger := s.config.Logger.With("service", name)
	var err error
	r.poolKey = poolKey{r.config.Upstream.ConnectionKey(r.config.TLS), r.config.KeepalivePing}
	if r.pool, err = newPool(r.config.Upstream, r.config.TLS, r.config.KeepalivePing, logger); err != nil {
		return nil, err
	}
	if known := s.services[name]; known != nil {
		r.service = known
		if known.poolKey == r.poolKey {
			r.pool = known.pool
		}
	} else {
		r.service = &service{name: name, failures: newFailureLog(), halfOpen: make(chan struct{}, 1)}
	}
	r.setService(name)
	env := fallbacks.Env{Service: name, Logger: logger, Host: s.config.Host, Transport: func(u routes.Upstream, tls routes.TLS) (fallbacks.Transport, error) {
		pool, err := newPool(u, tls, 0, logger)
		if err != nil {
			return nil, err // not pool: a Transport that holds a nil pointer is not nil
		}
		return pool, nil
	}}
	if err := r.setFallback(c, env, r.service.chain); err != nil {
		return nil, err
	}
	return r, nil
}

// activate puts r's configuration into effect for its service.
func (s *Server) activate(r *route) {
	service, policy := r.service, policyOf(r.config)
	born := service.breaker == nil
	if born {
		service.observer = s.config.Observers.Service(service.name)
		service.breaker = breaker.New(service.name, policy, func(e events.Event) {
			service.changed(e)
			s.config.Bus.Publish(e)
		})
	}
	service.breaker.SetPolicy(policy)
	service.pool, service.poolKey, service.chain = r.pool, r.poolKey, r.chain
	if r.chain != nil {
		r.chain.Start()
	}
	if born {
		s.config.Breakers.Add(service.name, service.breaker)
	}
	service.probe(r)
}

// Close ends the probes, the breakers' timers and the fallback strategies. It is called when no request is served any more.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range s.services {
		service.close()
	}
	s.snapshot.Swap(newSnapshot(nil, routes.Limits{})).retire(nil)
}

// Fallbacks returns the fallback chains of all services, by name; nil if a service has none.
func (s *Server) Fallbacks() map[string]*fallbacks.Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	chains := make(map[string]*fallbacks.Chain, len(s.services))
	for name, service := range s.services {
		chains[name] = service.chain
	}
	return chains
}

// Breaker returns a service's breaker, nil if there is no such service.
func (s *Server) Breaker(name string) *breaker.Breaker { return s.config.Breakers.Get(name) }

// DrainTunnels waits until no connection is switched to another protocol any more, or ctx is done. It is called after
// http.Server.Shutdown, which does not wait for those.
func (s *Server) DrainTunnels(ctx context.Context) error {
	drained := make(chan struct{})
	go func() { s.tunnels.Wait(); close(drained) }()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ServeHTTP serves one request of the data plane.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	snap := s.acquire()
	defer snap.release()
	path := message.RawPath(r)
	p := validateRequest(r, path, snap.limits) // before a tracer adds to the header section
	w = s.withRecorder(w, r, path)
	if p == nil && s.via.Contains(r.Header) {
		p = loopDetected
	}
	if p != nil {
		refuse(w, p)
		return
	}
	message.KeepWebSocketUpgrade(r)
	route, n, ok := snap.table.Match(path)
	if !ok {
		refuse(w, notFound)
		return
	}
	if rec, ok := w.(*accessRecorder); ok {
		rec.access.Prefix = route.prefix(path[:n])
	}
	if !route.config.StripPrefix {
		n = 0
	}
	route.serve(w, r, path[n:], snap.limits)
}
