package service

import (
	"fmt"
	"log/slog"
	"maps"
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

// Config is what a Manager is made from. All fields but Breakers, Tracer and Host are required.
type Config struct {
	Bus       *events.Bus
	Observers Observers
	// Breakers is the registry that the breakers are added to; nil: one of its own.
	Breakers *breaker.Registry
	// Tracer makes the spans of deliveries; nil: there are none.
	Tracer events.Tracer
	// Host is fallbacks.Env.Host.
	Host   any
	Logger *slog.Logger
	Via    *message.Via
}

// Manager is the services and routes of the current configuration. Safe for concurrent use.
type Manager struct {
	config   Config
	snapshot atomic.Pointer[Snapshot]
	inFlight limit.Concurrency // of all requests that are sent upstream, if max_in_flight is set

	mu       sync.Mutex // guards services; held during Apply
	services map[string]*Service
}

// NewManager returns a Manager without routes until Apply is called.
func NewManager(c Config) *Manager {
	if c.Breakers == nil {
		c.Breakers = breaker.NewRegistry(breaker.RegistryHooks{})
	}
	s := &Manager{config: c, services: map[string]*Service{}}
	s.snapshot.Store(newSnapshot(nil, routes.Limits{}))
	return s
}

// Apply puts c into effect, completely or, with an error, not at all. Breakers of services that stay keep their state and
// counts.
func (s *Manager) Apply(c *routes.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	services := make(map[string]*Service, len(c.Routes))
	built := make([]*Route, 0, len(c.Routes))
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		r, err := s.build(name, c)
		if err != nil {
			return fmt.Errorf("build routes.%s: %w", name, err)
		}
		services[name] = r.Service
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
func (s *Manager) build(name string, c *routes.Config) (*Route, error) {
	r := newRoute(c.Routes[name], c)
	r.Logger, r.tracer = s.config.Logger, s.config.Tracer
	r.ProxyInFlight, r.Via = &s.inFlight, s.config.Via
	logger := s.config.Logger.With("service", name)
	var err error
	r.poolKey = poolKey{r.Config.Upstream.ConnectionKey(r.Config.TLS), r.Config.KeepalivePing}
	if r.Pool, err = newPool(r.Config.Upstream, r.Config.TLS, r.Config.KeepalivePing, logger); err != nil {
		return nil, err
	}
	if known := s.services[name]; known != nil {
		r.Service = known
		if known.poolKey == r.poolKey {
			r.Pool = known.pool
		}
	} else {
		r.Service = &Service{Name: name, Failures: newFailureLog(), probeSignal: make(chan struct{}, 1)}
	}
	r.nameHeader = []string{name}
	env := fallbacks.Env{Service: name, Logger: logger, Host: s.config.Host, Transport: func(u routes.Upstream, tls routes.TLS) (fallbacks.Transport, error) {
		pool, err := newPool(u, tls, 0, logger)
		if err != nil {
			return nil, err // not pool: a Transport that holds a nil pointer is not nil
		}
		return pool, nil
	}}
	if err := r.setFallback(c, env, r.Service.chain); err != nil {
		return nil, err
	}
	return r, nil
}

// activate puts r's configuration into effect for its service.
func (s *Manager) activate(r *Route) {
	service, policy := r.Service, policyOf(r.Config)
	born := service.Breaker == nil
	if born {
		service.Observer = s.config.Observers.Service(service.Name)
		service.Breaker = breaker.New(service.Name, policy, func(e events.Event) {
			service.handleEvent(e)
			s.config.Bus.Publish(e)
		})
	}
	service.Breaker.SetPolicy(policy)
	service.pool, service.poolKey, service.chain = r.Pool, r.poolKey, r.Chain
	if r.Chain != nil {
		r.Chain.Start()
	}
	if born {
		s.config.Breakers.Add(service.Name, service.Breaker)
	}
	service.restartProber(r)
}

// Close ends the probes, the breakers' timers and the fallback strategies. It is called when no request is served any more.
func (s *Manager) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range s.services {
		service.close()
	}
	s.snapshot.Swap(newSnapshot(nil, routes.Limits{})).retire(nil)
}

// Fallbacks returns the fallback chains of all services, by name; nil if a service has none.
func (s *Manager) Fallbacks() map[string]*fallbacks.Chain {
	s.mu.Lock()
	defer s.mu.Unlock()
	chains := make(map[string]*fallbacks.Chain, len(s.services))
	for name, service := range s.services {
		chains[name] = service.chain
	}
	return chains
}

// Breaker returns a service's breaker, nil if there is no such service.
func (s *Manager) Breaker(name string) *breaker.Breaker { return s.config.Breakers.Get(name) }
