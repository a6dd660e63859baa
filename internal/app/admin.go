package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/fault"
	"cbproxy/internal/metrics"
	"cbproxy/internal/outcomes"
	"cbproxy/internal/service"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// adminBackend implements admin.Backend: it provides the status of the proxy and executes the requests to the admin API.
type adminBackend struct {
	*reloader
	state     *stateStore
	outcomes  *outcomes.Store
	queues    queueView
	forecasts *forecasts
	instance  string
	draining  atomic.Bool // the proxy is shutting down
}

// newInstance returns a name for this process that is unique among all instances.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "cbproxy"
	}
	suffix := make([]byte, 4)
	_, _ = rand.Read(suffix) // never fails
	return host + "-" + hex.EncodeToString(suffix)
}

// Health implements admin.Backend.
func (b *adminBackend) Health() admin.Health {
	loaded := b.active.Load()
	h := admin.Health{
		Services:  make(map[string]admin.Service, len(loaded.config.Routes)),
		Timestamp: time.Now().UTC(),
		Config:    loaded.status,
		Redis:     b.state.redisStatus(),
		Instance:  b.instance,
	}
	for name, br := range b.state.breakers.All() {
		if r := loaded.config.Routes[name]; r != nil {
			h.Services[name] = b.serviceStatus(name, r, br, loaded)
		}
	}
	h.Summarize()
	return h
}

// Service implements admin.Backend.
func (b *adminBackend) Service(name string) (admin.Service, bool) {
	loaded := b.active.Load()
	br, r := b.state.breakers.Get(name), loaded.config.Routes[name]
	if br == nil || r == nil {
		return admin.Service{}, false
	}
	return b.serviceStatus(name, r, br, loaded), true
}

// serviceStatus returns the status of a service with the route r and the breaker br, for the admin API.
func (b *adminBackend) serviceStatus(name string, r *routes.Route, br *breaker.Breaker, loaded *loadedConfig) admin.Service {
	s := admin.NewService(name, b.state.serviceStatus(name, br), admin.Configuration{
		FailMax:         r.Breaker.FailMax,
		RecoveryTimeout: admin.Seconds(r.Breaker.RecoveryTimeout),
		Timeout:         admin.Seconds(r.Timeout),
		FallbackEnabled: r.FallbackEnabled,
		Priority:        r.Priority,
	})
	s.Faults = b.Faults(name)
	s.Endpoints = admin.NewEndpoints(b.server.Endpoints(name))
	if keys, _ := b.server.Keys(name); keys != nil {
		s.Keys = admin.NewKeysSummary(keys.Counts())
	}
	if l, found := b.server.ConcurrencyLimit(name); found {
		s.ConcurrencyLimit = &l
	}
	if o, found := loaded.overrides[name]; found {
		s.Overrides = &admin.OverridesStatus{Keys: loaded.keys[name], Since: o.Since, Until: o.Until, Reason: o.Reason}
	}
	return s
}

// Faults implements admin.Backend.
func (b *adminBackend) Faults(service string) []events.Fault {
	if set := b.server.Faults(service); set != nil {
		return set.List()
	}
	return []events.Fault{}
}

// InjectFault implements admin.Backend.
func (b *adminBackend) InjectFault(service string, f events.Fault) (events.Fault, error) {
	if set := b.server.Faults(service); set != nil {
		return set.Start(f)
	}
	return events.Fault{}, fault.ErrClosed
}

// EndFault implements admin.Backend.
func (b *adminBackend) EndFault(service, id, reason string) (events.Fault, error) {
	if set := b.server.Faults(service); set != nil {
		return set.End(id, reason)
	}
	return events.Fault{}, fault.ErrUnknown
}

// Force implements admin.Backend.
func (b *adminBackend) Force(ctx context.Context, service string, fleet bool, state events.State, d time.Duration, reason string) error {
	if fleet {
		if err := b.state.forceFleet(ctx, service, state, d, reason); err != nil {
			return err
		}
	} else if br := b.state.breakers.Get(service); br != nil {
		br.Force(state, d, reason)
	}
	return b.state.persist(ctx, service)
}

// Release implements admin.Backend.
func (b *adminBackend) Release(ctx context.Context, service string, fleet bool, reason string) error {
	if fleet {
		if err := b.state.releaseFleet(ctx, service, reason); err != nil {
			return err
		}
	} else if br := b.state.breakers.Get(service); br != nil {
		br.Release(reason)
	}
	return b.state.persist(ctx, service)
}

// Baseline implements admin.Backend.
func (b *adminBackend) Baseline(service string) (events.Baseline, bool) {
	br := b.state.breakers.Get(service)
	if br == nil {
		return events.Baseline{}, false
	}
	return br.Baseline(), true
}

// Forecast implements admin.Backend.
func (b *adminBackend) Forecast(service string) (events.Forecast, bool) {
	return b.forecasts.of(service)
}

// ResetBaseline implements admin.Backend.
func (b *adminBackend) ResetBaseline(service string) error {
	if br := b.state.breakers.Get(service); br != nil {
		br.ResetBaseline()
	}
	if err := b.state.baselines.write(); err != nil {
		return &admin.NotPersistedError{Err: err}
	}
	return nil
}

// History implements admin.Backend.
func (b *adminBackend) History(ctx context.Context, service string) ([]events.HistoryEntry, error) {
	return b.state.history(ctx, service)
}

// Outcomes implements admin.Backend.
func (b *adminBackend) Outcomes(ctx context.Context, service string, since, until time.Time, yield func(string, events.Call) error) error {
	return b.outcomes.Read(ctx, service, since, until, yield)
}

// Policies implements admin.Backend.
func (b *adminBackend) Policies(name string, keys []byte) (changed, active breaker.Policy, err error) {
	config := b.active.config()
	if config.Routes[name] == nil {
		return changed, active, admin.ErrUnknownService
	}
	next, err := b.loader.WithBreaker(config, name, keys)
	if err != nil {
		return changed, active, invalidKeys(err)
	}
	return service.PolicyOf(next.Routes[name]), service.PolicyOf(config.Routes[name]), nil
}

// Queues implements admin.Backend.
func (b *adminBackend) Queues() admin.Queues { return b.queues }

// Ready implements admin.Backend.
func (b *adminBackend) Ready() error {
	if b.draining.Load() {
		return errors.New("the proxy is shutting down")
	}
	return nil
}

// EffectiveConfig implements admin.Backend.
func (b *adminBackend) EffectiveConfig() ([]byte, error) { return json.Marshal(b.active.config()) }

// ProtectReads implements admin.Backend.
func (b *adminBackend) ProtectReads() bool { return b.active.config().Admin.ProtectReads }

// Hosts implements admin.Backend.
func (b *adminBackend) Hosts() []string { return b.active.config().Admin.Hosts }

// Token implements admin.Backend. The file is read each time, so a rotated token takes effect at once.
func (b *adminBackend) Token() (string, error) {
	c := b.active.config().Admin
	if c.Token != "" || c.TokenFile == "" {
		return c.Token, nil
	}
	token, err := routes.ReadToken(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read admin.token_file: %s: %w", c.TokenFile, err)
	}
	if token == "" {
		return "", fmt.Errorf("read admin.token_file: %s contains no token", c.TokenFile)
	}
	return token, nil
}

// fallbackMetrics returns the state of all fallbacks by service, for a scrape.
func fallbackMetrics(s *proxy.Server) map[string]metrics.Fallback {
	all := map[string]metrics.Fallback{}
	for name, chain := range s.Fallbacks() {
		c := chain.CacheStats()
		fallback := metrics.Fallback{Cache: metrics.Cache{
			Hits: c.Hits, Misses: c.Misses, Stored: c.Stored, Evicted: c.Evicted, Entries: c.Entries, Bytes: c.Bytes,
		}}
		fallback.Upstream, fallback.HasUpstream = chain.BreakerState()
		all[name] = fallback
	}
	return all
}
