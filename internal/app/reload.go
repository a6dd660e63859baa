package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/accesslog"
	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/internal/listen"
	"cbproxy/internal/metrics"
	"cbproxy/internal/outcomes"
	"cbproxy/internal/override"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// loadedConfig is the active configuration and the result of the last reload. It is never modified.
type loadedConfig struct {
	overlaid
	status admin.ConfigStatus
}

// activeConfig holds the active configuration. It is safe for concurrent use.
type activeConfig struct{ atomic.Pointer[loadedConfig] }

// newActiveConfig returns an activeConfig with the first configuration.
func newActiveConfig(c *routes.Config) *activeConfig {
	a := new(activeConfig)
	a.Store(&loadedConfig{overlaid{config: c, base: c}, admin.ConfigStatus{
		Hash: c.Hash, LoadedAt: time.Now().UTC(), RestartRequired: []string{}, OverridesDropped: []admin.DroppedOverrides{},
	}})
	return a
}

func (a *activeConfig) config() *routes.Config { return a.Load().config }

// reloader applies configurations. It is safe for concurrent use.
//
//	SIGHUP, admin API: Reload        -> reload -> applyBase -> apply
//	file changed:      reloadContent -> reload -> applyBase -> apply
//	start of Run:      start                   -> applyBase -> apply
//	overrides changed: SetOverrides, EndOverrides, runOverrides -> apply
type reloader struct {
	active *activeConfig
	loader routes.Loader
	server *proxy.Server
	// outcomes records the calls of the configured services.
	outcomes *outcomes.Store
	queues   *queueService
	bus      *events.Bus
	metrics  *metrics.Metrics
	access   *accesslog.Log
	// listeners has the own listeners of services, which reloads change.
	listeners *httpserver.Set
	logger    *slog.Logger

	mu      sync.Mutex     // serializes changes of the configuration, and guards the fields below
	started *routes.Config // the first configuration, which the listeners use
	// overridesFile has the overrides that are in force, unless unsaved is set; nil without a data_dir.
	overridesFile *override.File
	unsaved       bool
	// overridesChanged receives a value when the time at which runOverrides has something to do may have changed. It has a capacity of 1.
	overridesChanged chan struct{}
}

// start applies the first configuration, with the overrides that a previous process has left.
func (r *reloader) start(c *routes.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	stored, quarantined, err := r.overridesFile.Load(time.Now())
	if err != nil {
		return dataDirError(c.DataDir, err)
	}
	if quarantined != "" {
		r.logger.Error("persisted overrides lost", "reason", quarantined)
	}
	next, err := r.applyBase(c, stored)
	if err != nil {
		return err
	}
	r.started = c
	r.activate(next, r.active.Load().status)
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
	var next overlaid
	c, err := load()
	if err == nil {
		next, err = r.applyBase(c, r.active.Load().overrides)
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
	r.activate(next, admin.ConfigStatus{LoadedAt: now, RestartRequired: restart, OverridesDropped: r.active.Load().status.OverridesDropped})
	r.bus.Publish(events.Reloaded{Time: now, Hash: next.config.Hash, RestartRequired: restart})
	return nil
}

// apply makes every component use c. If it returns an error, nothing has changed.
func (r *reloader) apply(c *routes.Config) error {
	access, err := r.access.Prepare(accesslog.Settings(c.AccessLog))
	if err != nil {
		return err
	}
	listeners, err := r.prepareListeners(c)
	if err != nil {
		access.Discard()
		return err
	}
	if err := r.server.Apply(c); err != nil {
		listeners.Discard()
		access.Discard()
		return err
	}
	r.commitListeners(listeners, c)
	access.Commit()
	r.outcomes.Apply(outcomes.Config{
		Enabled: c.Outcomes.Enabled, MaxBytes: int64(c.Outcomes.MaxBytes), MaxAge: c.Outcomes.MaxAge,
	}, slices.Collect(maps.Keys(c.Routes)))
	r.queues.RemovePolicies(func(service string) bool { return hasQueue(c, service) })
	return nil
}

// prepareListeners opens the own listeners of services that c adds.
func (r *reloader) prepareListeners(c *routes.Config) (*httpserver.Change, error) {
	own := c.OwnListeners()
	want := make(map[string]listen.Address, len(own))
	for key, l := range own {
		want[key] = l.Address
	}
	change, err := r.listeners.Prepare(context.Background(), want)
	if failed := (*httpserver.OpenError)(nil); errors.As(err, &failed) {
		return nil, c.ListenError("routes."+own[failed.Key].Service+".listen", failed.Err)
	}
	return change, err
}

// commitListeners begins to serve the listeners that have been opened for c, and closes those that c does not have.
func (r *reloader) commitListeners(change *httpserver.Change, c *routes.Config) {
	own, opened := c.OwnListeners(), change.Opened()
	closed := change.Commit()
	for _, key := range opened {
		r.logger.Info("listening", "service", own[key].Service, "listen", r.listeners.Addr(key).String())
	}
	for _, key := range closed {
		r.logger.Info("listener closed", "listen", key)
	}
}
