// Package proxy carries a request from the listener to its route, through the route's
// breaker to the upstream or to the fallback, and back.
//
// The way of a request: Server.ServeHTTP turns away what no upstream may see and finds the
// route; route.serve opens an exchange and asks the breaker and the limits on requests in
// flight; httputil.ReverseProxy carries the exchange, with route.RoundTrip as its transport,
// which makes one attempt or several and judges the upstream's answer to each; exchange.end
// reports, exactly once, whatever happened.
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

// Observers makes an Observer for each service, and is told of a service that is gone.
type Observers interface {
	Service(name string) events.Observer
	Forget(name string)
}

// Config is what a Server is built from. All fields but Breakers, Access, Tracer and Host are
// required.
type Config struct {
	Bus       *events.Bus
	Observers Observers
	// Breakers is the registry that the server adds its services' breakers to; nil: one of its own.
	Breakers *breaker.Registry
	// Access is told of each request's end; nil: nobody is.
	Access events.AccessLog
	// Tracer makes the requests' spans; nil: they have none.
	Tracer events.Tracer
	// Host is fallbacks.Env.Host.
	Host   any
	Logger *slog.Logger
	// Instance is the name that the proxy has in Via, which no other proxy has. Empty: a random one.
	Instance string
}

// Server is the data plane's http.Handler. Apply may be called while requests are served;
// each request runs under the configuration it began with.
type Server struct {
	config   Config
	via      *message.Via
	snapshot atomic.Pointer[snapshot]

	tunnels  sync.WaitGroup    // requests whose connections have been switched to another protocol
	inFlight limit.Concurrency // of all requests that are sent upstream, if max_in_flight is set

	mu       sync.Mutex // guards services, and lets one Apply run at a time
	services map[string]*service
}

// New returns a Server that answers 404 to everything until Apply.
func New(c Config) *Server {
	if c.Breakers == nil {
		c.Breakers = breaker.NewRegistry(breaker.RegistryHooks{})
	}
	s := &Server{config: c, via: message.NewVia(c.Instance), services: map[string]*service{}}
	s.snapshot.Store(newSnapshot(nil, routes.Limits{}))
	return s
}

// Apply puts c in force, whole or, with an error, not at all. Breakers of services that
// stay keep their state and counts.
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
		s.adopt(r)
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

// build makes the route of a service, for a service that exists or a new one, and changes
// nothing that is in force.
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
		r.service = &service{name: name, halfOpen: make(chan struct{}, 1)}
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

// adopt makes r's service live by r's configuration.
func (s *Server) adopt(r *route) {
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

// Close ends what the server does without being asked: the probes, the breakers' clocks and
// the fallbacks' strategies. It is for when no request is served any more.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range s.services {
		service.close()
	}
	s.snapshot.Swap(newSnapshot(nil, routes.Limits{})).retire(nil)
}

// Fallbacks returns the chains of the services in force, by name; nil where a service has none.
func (s *Server) Fallbacks() map[string]*fallbacks.Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	chains := make(map[string]*fallbacks.Chain, len(s.services))
	for name, service := range s.services {
		chains[name] = service.chain
	}
	return chains
}

// Breaker returns a service's breaker, nil if no service in force has that name.
func (s *Server) Breaker(name string) *breaker.Breaker { return s.config.Breakers.Get(name) }

// DrainTunnels waits until no connection is switched to another protocol any more, or ctx
// is done. It is to be called once http.Server.Shutdown has returned, which does not wait
// for those.
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

// ServeHTTP answers one request of the data plane.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	snap := s.acquire()
	defer snap.release()
	path := message.RawPath(r)
	p := validateRequest(r, path, snap.limits) // first: a tracer adds to the header section
	w = s.recorded(w, r, path)
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
	if rec, ok := w.(*record); ok {
		rec.access.Prefix = route.prefix(path[:n])
	}
	if !route.config.StripPrefix {
		n = 0
	}
	route.serve(w, r, path[n:], snap.limits)
}
