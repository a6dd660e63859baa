package app

import (
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/accesslog"
	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/metrics"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// loadedConfig is the active configuration and the result of the last reload. It is never modified.
type loadedConfig struct {
	config *routes.Config
	status admin.ConfigStatus
}

// activeConfig holds the active configuration. It is safe for concurrent use.
type activeConfig struct{ atomic.Pointer[loadedConfig] }

// newActiveConfig returns an activeConfig with the first configuration.
func newActiveConfig(c *routes.Config) *activeConfig {
	a := new(activeConfig)
	a.Store(&loadedConfig{c, admin.ConfigStatus{Hash: c.Hash, LoadedAt: time.Now().UTC(), RestartRequired: []string{}}})
	return a
}

func (a *activeConfig) config() *routes.Config { return a.Load().config }

// reloader applies configurations. It is safe for concurrent use.
//
//	SIGHUP, admin API: Reload        -> reload -> apply
//	file changed:      reloadContent -> reload -> apply
//	start of Run:      start                   -> apply
type reloader struct {
	active  *activeConfig
	loader  routes.Loader
	server  *proxy.Server
	queues  *queueService
	bus     *events.Bus
	metrics *metrics.Metrics
	access  *accesslog.Log

	mu      sync.Mutex     // serializes reloads, and guards started
	started *routes.Config // the first configuration, which the listeners use
}

// start applies the first configuration.
func (r *reloader) start(c *routes.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.apply(c); err != nil {
		return err
	}
	r.started = c
	r.metrics.Loaded(r.active.Load().status.LoadedAt)
	return nil
}

// Reload reads and applies the configuration file, and publishes the result. If it returns an error, nothing has changed.
func (r *reloader) Reload() error {
	return r.reload(r.loader.Reload)
}

// reloadContent applies the given content of the configuration file, as Reload does.
func (r *reloader) reloadContent(content []byte) error {
	return r.reload(func() (*routes.Config, error) { return r.loader.Parse(content) })
}

// reload applies the configuration that load returns, and publishes the result.
func (r *reloader) reload(load func() (*routes.Config, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := load()
	if err == nil {
		err = r.apply(c)
	}
	now := time.Now().UTC()
	r.metrics.Reloaded(err == nil, now)
	if err != nil {
		unchanged := *r.active.Load()
		text := err.Error()
		unchanged.status.LastError = &text
		r.active.Store(&unchanged)
		r.bus.Publish(events.Reloaded{Time: now, Error: text})
		return err
	}
	restart := c.RestartKeys(r.started)
	if restart == nil {
		restart = []string{}
	}
	r.active.Store(&loadedConfig{c, admin.ConfigStatus{Hash: c.Hash, LoadedAt: now, RestartRequired: restart}})
	r.bus.Publish(events.Reloaded{Time: now, Hash: c.Hash, RestartRequired: restart})
	return nil
}

// apply makes every component use c. If it returns an error, nothing has changed.
func (r *reloader) apply(c *routes.Config) error {
	access, err := r.access.Prepare(accesslog.Settings(c.AccessLog))
	if err != nil {
		return err
	}
	if err := r.server.Apply(c); err != nil {
		access.Discard()
		return err
	}
	access.Commit()
	r.queues.RemovePolicies(func(service string) bool { return hasQueue(c, service) })
	return nil
}
