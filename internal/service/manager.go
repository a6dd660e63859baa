package service

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/expression"
	"cbproxy/internal/fault"
	"cbproxy/internal/limit"
	"cbproxy/internal/message"
	"cbproxy/routes"
)

// Observers makes an Observer for each service. Forget is called when a service is removed.
type Observers interface {
	Service(name string) events.Observer
	Forget(name string)
}

// Config configures a Manager. All fields but Breakers, Tracer and StrategyProvider are required.
type Config struct {
	Bus       *events.Bus
	Observers Observers
	// Breakers is the registry to which the breakers are added. If it is nil, the Manager makes one.
	Breakers *breaker.Registry
	// Tracer makes the spans of deliveries. If it is nil, deliveries are not traced.
	Tracer events.Tracer
	// StrategyProvider is passed to the fallback strategies as fallbacks.Env.Provider. They assert that it implements the interfaces
	// that they need.
	StrategyProvider any
	// RecordCalls returns breaker.Environment.Record for the breaker of a service. If it is nil, calls are not recorded.
	RecordCalls func(service string) func(events.Call)
	Logger      *slog.Logger
	Via         *message.Via
}

// Manager holds the services and routes of the current configuration. It is safe for concurrent use.
type Manager struct {
	config   Config
	snapshot atomic.Pointer[Snapshot] // the current one
	inFlight limit.Concurrency        // of all routes; used if the configuration sets max_in_flight

	mu       sync.Mutex // guards services; held during Apply
	services map[string]*Service
}

// NewManager returns a Manager without routes until Apply is called.
func NewManager(c Config) *Manager {
	if c.Breakers == nil {
		c.Breakers = breaker.NewRegistry(breaker.RegistryHooks{})
	}
	m := &Manager{config: c, services: map[string]*Service{}}
	m.snapshot.Store(newSnapshot(nil, routes.Limits{}, nil))
	return m
}

// Apply puts c into effect, completely or, with an error, not at all. Breakers of services that c still has keep their state and
// counts. It has two steps: build, which can fail and changes nothing, for all routes; then activate, which cannot fail.
func (m *Manager) Apply(c *routes.Config) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	services := make(map[string]*Service, len(c.Routes))
	built := make([]*Route, 0, len(c.Routes))
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		r, err := m.build(name, c)
		if err != nil {
			return fmt.Errorf("build routes.%s: %w", name, err)
		}
		services[name] = r.Service
		built = append(built, r)
	}
	for _, r := range built {
		m.activate(r)
	}
	old := m.snapshot.Swap(newSnapshot(built, c.Limits, m.snapshot.Load()))
	for name, removed := range m.services {
		if services[name] == nil {
			removed.close(events.FaultServiceRemoved)
			m.config.Breakers.Remove(name)
			m.config.Observers.Forget(name)
		}
	}
	m.services = services
	old.retire()
	return nil
}

// build returns the route of a service under c, and changes nothing that is in effect. It reuses the endpoints of the service's
// current route that stay the same. It always builds new fallback strategies, which may take over the state of
// the current ones (fallbacks.Env.Previous). What it makes has no goroutines, connections or other resources to release until
// activate, so that it can be dropped if the build of another route fails.
func (m *Manager) build(name string, c *routes.Config) (*Route, error) {
	r := newRoute(c.Routes[name], c)
	if text := string(r.Config.Breaker.FailureWhen); text != "" {
		var err error
		if r.FailureWhen, err = expression.CompileFailureWhen(text); err != nil {
			return nil, fmt.Errorf("compile breaker.failure_when: %w", err)
		}
	}
	r.Logger, r.tracer = m.config.Logger, m.config.Tracer
	r.ProxyInFlight, r.Via = &m.inFlight, m.config.Via
	logger := m.config.Logger.With("service", name)
	var err error
	if r.Service = m.services[name]; r.Service == nil {
		r.Service = &Service{
			Name: name, failures: newFailureLog(), probeSignal: make(chan struct{}, 1),
			Faults: fault.NewSet(name, m.config.Bus.Publish, nil),
		}
	}
	if r.Endpoints, err = newEndpoints(name, r.Config, r.Service.endpoints, m.config.Bus.Publish, logger); err != nil {
		return nil, err
	}
	r.nameHeader = []string{name}
	if err := r.setFallback(c, m.strategyEnv(r.Service, logger), r.Service.chain); err != nil {
		return nil, err
	}
	return r, nil
}

// strategyEnv returns the environment of the service's fallback strategies.
func (m *Manager) strategyEnv(s *Service, logger *slog.Logger) fallbacks.Env {
	return fallbacks.Env{
		Service: s.Name, Logger: logger, Provider: m.config.StrategyProvider,
		Transport: func(u routes.Upstream, tls routes.TLS) (fallbacks.Transport, error) {
			newPool, err := poolMaker(u.Scheme == "https", tls, 0, logger)
			if err != nil {
				return nil, err
			}
			return newPool(u.URL, netip.Addr{}), nil
		},
		ReportLocalError: func(kind events.LocalError, err error) { s.ReportLocalError(m.config.Logger, kind, err) },
	}
}

// activate puts r's configuration into effect for its service. It cannot fail.
func (m *Manager) activate(r *Route) {
	service, policy := r.Service, PolicyOf(r.Config)
	isNew := service.Breaker == nil
	if isNew {
		service.Observer = m.config.Observers.Service(service.Name)
		var env breaker.Environment
		if m.config.RecordCalls != nil {
			env.Record = m.config.RecordCalls(service.Name)
		}
		service.Breaker = breaker.NewIn(env, service.Name, policy, func(e events.Event) {
			service.handleEvent(e)
			m.config.Bus.Publish(e)
		})
	}
	service.Breaker.SetPolicy(policy)
	r.Endpoints.Start()
	service.endpoints, service.chain = r.Endpoints, r.Chain
	r.keys = service.updateKeys(&r.Config.Breaker.By, policy, m.config.Bus.Publish)
	if r.Chain != nil {
		r.Chain.Start()
	}
	if isNew {
		m.config.Breakers.Add(service.Name, service.Breaker)
	}
	service.restartProber(r)
	service.updateHealthChecker(r)
	if !r.Config.MaxInFlight.Auto {
		service.learntLimit.Reset()
	}
}

// Close stops the probes, the breakers' timers and the fallback strategies. It must be called after the last request has ended.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, service := range m.services {
		service.close(events.FaultShutdown)
	}
	m.snapshot.Swap(newSnapshot(nil, routes.Limits{}, nil)).retire()
}

// Fallbacks returns the fallback chains of all services, by name; nil if a service has none.
func (m *Manager) Fallbacks() map[string]*fallbacks.Chain {
	m.mu.Lock()
	defer m.mu.Unlock()
	chains := make(map[string]*fallbacks.Chain, len(m.services))
	for name, service := range m.services {
		chains[name] = service.chain
	}
	return chains
}

// Faults returns the faults that are injected into a service's requests; nil if there is no such service.
func (m *Manager) Faults(service string) *fault.Set {
	snap := m.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		return rt.Service.Faults
	}
	return nil
}

// FaultStatuses returns the state of the faults of all services, by name.
func (m *Manager) FaultStatuses() map[string]events.FaultStatus {
	snap := m.Acquire()
	defer snap.Release()
	all := make(map[string]events.FaultStatus, len(snap.routes))
	for _, rt := range snap.routes {
		all[rt.Service.Name] = rt.Service.Faults.Status()
	}
	return all
}

// Breaker returns a service's breaker, nil if there is no such service.
func (m *Manager) Breaker(name string) *breaker.Breaker { return m.config.Breakers.Get(name) }
