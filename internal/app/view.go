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
	"cbproxy/internal/metrics"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// view implements admin.Proxy: it provides the status of the proxy and executes the requests of the admin plane.
type adminBackend struct {
	*reloader
	state    *stateStore
	queues   queueView
	instance string
	draining atomic.Bool // the proxy is shutting down
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

// Health implements admin.Proxy.
func (v *adminBackend) Health() admin.Health {
	loaded := v.active.Load()
	h := admin.Health{
		Services:  make(map[string]admin.Service, len(loaded.config.Routes)),
		Timestamp: time.Now().UTC(),
		Config:    loaded.status,
		Redis:     v.state.redisStatus(),
		Instance:  v.instance,
	}
	for name, b := range v.state.breakers.All() {
		if r := loaded.config.Routes[name]; r != nil {
			h.Services[name] = v.serviceStatus(name, r, b)
		}
	}
	h.Summarize()
	return h
}

// Service implements admin.Proxy.
func (v *adminBackend) Service(name string) (admin.Service, bool) {
	b, r := v.state.breakers.Get(name), v.active.config().Routes[name]
	if b == nil || r == nil {
		return admin.Service{}, false
	}
	return v.serviceStatus(name, r, b), true
}

// serviceStatus returns the status of a service with the route r and the breaker b, for the admin API.
func (v *adminBackend) serviceStatus(name string, r *routes.Route, b *breaker.Breaker) admin.Service {
	return admin.NewService(name, v.state.serviceStatus(name, b), admin.Configuration{
		FailMax:         r.Breaker.FailMax,
		RecoveryTimeout: admin.Seconds(r.Breaker.RecoveryTimeout),
		Timeout:         admin.Seconds(r.Timeout),
		FallbackEnabled: r.FallbackEnabled,
		Priority:        r.Priority,
	})
}

// Force implements admin.Proxy.
func (v *adminBackend) Force(ctx context.Context, service string, fleet bool, state events.State, d time.Duration, reason string) error {
	if fleet {
		if err := v.state.forceFleet(ctx, service, state, d, reason); err != nil {
			return err
		}
	} else if b := v.state.breakers.Get(service); b != nil {
		b.Force(state, d, reason)
	}
	return v.state.persist(ctx, service)
}

// Release implements admin.Proxy.
func (v *adminBackend) Release(ctx context.Context, service string, fleet bool, reason string) error {
	if fleet {
		if err := v.state.releaseFleet(ctx, service, reason); err != nil {
			return err
		}
	} else if b := v.state.breakers.Get(service); b != nil {
		b.Release(reason)
	}
	return v.state.persist(ctx, service)
}

// History implements admin.Proxy.
func (v *adminBackend) History(ctx context.Context, service string) ([]events.HistoryEntry, error) {
	return v.state.history(ctx, service)
}

// Queues implements admin.Proxy.
func (v *adminBackend) Queues() admin.Queues { return v.queues }

// Ready implements admin.Proxy.
func (v *adminBackend) Ready() error {
	if v.draining.Load() {
		return errors.New("the proxy is shutting down")
	}
	return nil
}

// EffectiveConfig implements admin.Proxy.
func (v *adminBackend) EffectiveConfig() ([]byte, error) { return json.Marshal(v.active.config()) }

// ProtectReads implements admin.Proxy.
func (v *adminBackend) ProtectReads() bool { return v.active.config().Admin.ProtectReads }

// Hosts implements admin.Proxy.
func (v *adminBackend) Hosts() []string { return v.active.config().Admin.Hosts }

// Token implements admin.Proxy. The file is read each time, so a rotated token takes effect at once.
func (v *adminBackend) Token() (string, error) {
	c := v.active.config().Admin
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
	views := map[string]metrics.Fallback{}
	for name, chain := range s.Fallbacks() {
		c := chain.CacheStats()
		view := metrics.Fallback{Cache: metrics.Cache{
			Hits: c.Hits, Misses: c.Misses, Stored: c.Stored, Evicted: c.Evicted, Entries: c.Entries, Bytes: c.Bytes,
		}}
		view.Upstream, view.HasUpstream = chain.BreakerState()
		views[name] = view
	}
	return views
}

// trendTotals returns the counters that the dashboard's trends are computed from.
func trendTotals(m *metrics.Metrics) map[string]admin.Totals {
	all := map[string]admin.Totals{}
	for name, t := range m.Totals() {
		all[name] = admin.Totals{
			Success: t.Requests[events.ResultSuccess], Failure: t.Requests[events.ResultFailure],
			Rejected: t.Requests[events.ResultRejected], Cancelled: t.Requests[events.ResultCancelled],
			Fallbacks: t.Fallbacks, Durations: t.Durations, Bounds: t.Bounds,
		}
	}
	return all
}
