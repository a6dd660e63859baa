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

// configured is the configuration in force and what became of the last one read.
type configured struct {
	config *routes.Config
	status admin.ConfigStatus
}

// reloader puts configurations in force. Safe for concurrent use.
type reloader struct {
	loader  routes.Loader
	server  *proxy.Server
	bus     *events.Bus
	metrics *metrics.Metrics
	access  *accesslog.Log
	started *routes.Config // what the listeners were opened with

	mu      sync.Mutex // one reload at a time
	current atomic.Pointer[configured]
}

// start puts the first configuration in force.
func (r *reloader) start(c *routes.Config) error {
	if err := r.enforce(c); err != nil {
		return err
	}
	now := time.Now().UTC()
	r.started = c
	r.current.Store(&configured{c, admin.ConfigStatus{Hash: c.Hash, LoadedAt: now, RestartRequired: []string{}}})
	r.metrics.Loaded(now)
	return nil
}

// Reload reads the file and puts it in force, whole or, with an error, not at all.
func (r *reloader) Reload() error {
	return r.apply(r.loader.Reload)
}

// reloadContent puts the given content of the file in force.
func (r *reloader) reloadContent(content []byte) error {
	return r.apply(func() (*routes.Config, error) { return r.loader.Parse(content) })
}

func (r *reloader) apply(load func() (*routes.Config, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := load()
	if err == nil {
		err = r.enforce(c)
	}
	now := time.Now().UTC()
	r.metrics.Reloaded(err == nil, now)
	if err != nil {
		refused := *r.current.Load()
		text := err.Error()
		refused.status.LastError = &text
		r.current.Store(&refused)
		r.bus.Publish(events.Reloaded{Time: now, Error: text})
		return err
	}
	restart := c.RestartKeys(r.started)
	if restart == nil {
		restart = []string{}
	}
	r.current.Store(&configured{c, admin.ConfigStatus{Hash: c.Hash, LoadedAt: now, RestartRequired: restart}})
	r.bus.Publish(events.Reloaded{Time: now, Hash: c.Hash, RestartRequired: restart})
	return nil
}

// enforce puts c in force, whole or, with an error, not at all.
func (r *reloader) enforce(c *routes.Config) error {
	access, err := r.access.Prepare(accesslog.Settings(c.AccessLog))
	if err != nil {
		return err
	}
	if err := r.server.Apply(c); err != nil {
		access.Discard()
		return err
	}
	access.Commit()
	return nil
}
