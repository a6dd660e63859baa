package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/fleet"
	"cbproxy/internal/metrics"
	"cbproxy/internal/store"
	"cbproxy/internal/tlsfiles"
	"cbproxy/routes"
)

// stateStore persists the state of breakers and shares it with other instances. It is safe for concurrent use.
type stateStore struct {
	instance string
	logger   *slog.Logger
	config   *activeConfig
	breakers *breaker.Registry

	store store.Store  // of this instance
	redis *store.Redis // nil if redis.url is not set
	fleet *fleet.Fleet // nil if redis is nil

	local  *store.Persister // writes to store
	shared *store.Persister // writes to redis; nil if redis is nil
}

// openStateStore opens the stores that the configuration names.
func openStateStore(config *activeConfig, instance string, logger *slog.Logger) (*stateStore, error) {
	k := &stateStore{instance: instance, logger: logger, config: config}
	c := config.config()
	if err := k.openStore(c.DataDir); err != nil {
		return nil, err
	}
	if c.Redis.URL != "" {
		if err := k.openRedis(c.Redis); err != nil {
			_ = k.store.Close()
			return nil, err
		}
	}
	k.breakers = breaker.NewRegistry(breaker.RegistryHooks{Added: k.restore, Removed: k.leaveFleet})
	k.newPersisters()
	return k, nil
}

// newKeepers creates the keepers of both stores. The shared one does not write states that the fleet itself decides.
func (k *stateStore) newPersisters() {
	k.local = store.NewPersister(store.PersisterConfig{
		Store: k.store, Instance: k.instance, Services: k.services, Current: k.current, Logger: k.logger,
		RecordsHistory: func(events.StateChanged) bool { return true },
	})
	if k.redis == nil {
		return
	}
	k.shared = store.NewPersister(store.PersisterConfig{
		Store: k.redis, Instance: k.instance, Services: k.services,
		Current: func(service string) (store.State, bool) {
			s, ok := k.current(service)
			return s, ok && !k.share().Enabled // while sharing, the fleet writes the state in Redis
		},
		// A change that only follows the fleet's decision is recorded by the instance that caused the decision.
		RecordsHistory: func(c events.StateChanged) bool { return c.Cause != events.CauseFleet },
	})
}

// openStore opens the store in a folder, or in memory if folder is "".
func (k *stateStore) openStore(folder string) error {
	if folder == "" {
		k.store = store.NewMemory()
		return nil
	}
	file, setAside, err := store.OpenFile(folder)
	if err != nil {
		return dataDirError(folder, err)
	}
	if setAside != "" {
		k.logger.Error("persisted breaker state lost", "reason", setAside)
	}
	k.store = file
	return nil
}

// dataDirError adds the unusable data_dir and advice to an error.
func dataDirError(folder string, err error) error {
	return fmt.Errorf("data_dir %q: %w (set another folder, or \"\" to keep everything in memory)", folder, err)
}

// openRedis connects to Redis and joins the fleet there.
func (k *stateStore) openRedis(c routes.Redis) error {
	reloader, err := tlsfiles.New(tlsfiles.Config(c.TLS), k.logger.With("client", "redis"))
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	k.redis, err = store.NewRedis(store.RedisConfig{
		URL: c.URL, TLS: reloader.Client(), Namespace: c.Namespace, Logger: k.logger,
		TTL:         func() time.Duration { return k.config.config().Redis.TTL },
		LargestBody: func() int64 { return largestQueuedBody(k.config.config()) },
	})
	if err != nil {
		return fmt.Errorf("redis.url: %w", err)
	}
	k.redis.RedirectClientLog()
	k.fleet = fleet.New(fleet.Config{Instance: k.instance, Coordinator: k.redis, Sharing: k.share})
	return nil
}

// share returns the current settings for sharing state.
func (k *stateStore) share() fleet.Sharing {
	c := k.config.config().Redis
	return fleet.Sharing{Enabled: c.Share.Enabled, Quorum: c.Share.Quorum, TTL: c.TTL}
}

// restore sets the persisted state of a new breaker and adds the breaker to the fleet.
func (k *stateStore) restore(service string, b *breaker.Breaker) {
	switch s, found, err := k.store.Load(context.Background(), service); {
	case err != nil:
		k.logger.Error("cannot read persisted breaker state, starting closed", "service", service, "error", err)
	case found:
		fleet.Restore(b, s)
	}
	if k.fleet != nil {
		k.fleet.Join(service, b)
	}
}

// leaveFleet removes the breaker of a removed service from the fleet.
func (k *stateStore) leaveFleet(service string) {
	if k.fleet != nil {
		k.fleet.Leave(service)
	}
}

// run persists state changes and takes part in the fleet until ctx is done, on goroutines that it adds to wait. It
// subscribes to bus before it returns.
func (k *stateStore) run(ctx context.Context, bus *events.Bus, wait *sync.WaitGroup) {
	k.persistEvents(ctx, k.local, bus, wait)
	if k.redis == nil {
		return
	}
	k.persistEvents(ctx, k.shared, bus, wait)
	wait.Go(func() { k.fleet.Run(ctx) })
	changes := bus.Subscribe(eventBuffer)
	wait.Go(func() { k.notifyFleet(ctx, changes) })
}

// persistEvents runs a keeper until ctx is done, on a goroutine that it adds to wait.
func (k *stateStore) persistEvents(ctx context.Context, keeper *store.Persister, bus *events.Bus, wait *sync.WaitGroup) {
	sub := bus.Subscribe(eventBuffer)
	wait.Go(func() { keeper.Run(ctx, sub) })
}

// notifyFleet tells the fleet which breakers may have changed, until ctx is done.
func (k *stateStore) notifyFleet(ctx context.Context, sub *events.Subscription) {
	for {
		e, missed, err := sub.Next(ctx)
		if err != nil {
			return
		}
		service := ""
		switch e := e.(type) {
		case events.StateChanged:
			service = e.Service
		case events.Forced:
			service = e.Service
		case events.ProbeGranted: // caused by the fleet itself
			if missed == 0 {
				continue
			}
		}
		if missed > 0 {
			service = "" // all services
		}
		k.fleet.BreakerChanged(service)
	}
}

// close writes pending state and closes the stores. All goroutines of run must have ended.
func (k *stateStore) close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	k.local.Flush(ctx)
	if err := k.store.Close(); err != nil {
		k.logger.Error("cannot close the state store", "error", err)
	}
	if k.redis != nil {
		if k.redis.Health().Up {
			k.shared.Flush(ctx)
		}
		_ = k.redis.Close()
	}
}

// flushTimeout bounds how long close waits for writes.
const flushTimeout = 2 * time.Second

// services returns the names of all services.
func (k *stateStore) services() []string { return slices.Collect(maps.Keys(k.breakers.All())) }

// current returns the state of a service's breaker to persist; false if the service has none.
func (k *stateStore) current(service string) (store.State, bool) {
	b := k.breakers.Get(service)
	if b == nil {
		return store.State{}, false
	}
	return fleet.StateOf(service, k.instance, b.Status()), true
}

// epoch returns the fleet's epoch of a service, or 0 without Redis.
func (k *stateStore) epoch(service string) uint64 {
	if k.fleet == nil {
		return 0
	}
	return k.fleet.Epoch(service)
}

// probing reports whether this instance holds the fleet's probe lease of a service.
func (k *stateStore) probing(service string) bool { return k.fleet != nil && k.fleet.IsProber(service) }

var errNoFleet = errors.New("redis.url is not set")

// forceFleet forces the state of a service's breaker in the whole fleet.
func (k *stateStore) forceFleet(ctx context.Context, service string, state events.State, d time.Duration, reason string) error {
	if k.fleet == nil {
		return errNoFleet
	}
	return k.fleet.Force(ctx, service, state, d, reason)
}

// persistTimeout bounds how long an admin request waits for the disk.
const persistTimeout = 3 * time.Second

// persist writes the current state of a service to this instance's own store. Its error is an *admin.NotPersistedError.
func (k *stateStore) persist(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), persistTimeout)
	defer cancel()
	if err := k.local.Sync(ctx, service); err != nil {
		return &admin.NotPersistedError{Err: err}
	}
	return nil
}

// releaseFleet releases a breaker that was forced in the whole fleet.
func (k *stateStore) releaseFleet(ctx context.Context, service, reason string) error {
	if k.fleet == nil {
		return errNoFleet
	}
	return k.fleet.Release(ctx, service, reason)
}

// redisCondition returns the condition of Redis; configured is false if redis.url is not set.
func (k *stateStore) redisHealth() (c store.Health, configured bool) {
	if k.redis == nil {
		return c, false
	}
	return k.redis.Health(), true
}

// redisMetrics returns the condition of Redis for a scrape; false if redis.url is not set.
func (k *stateStore) redisMetrics() (metrics.Redis, bool) {
	c, configured := k.redisHealth()
	return metrics.Redis{Up: c.Up, Operations: c.Operations, Errors: c.Errors}, configured
}

// redisStatus returns the condition of Redis for the admin API.
func (k *stateStore) redisStatus() (s admin.RedisStatus) {
	c, configured := k.redisHealth()
	if !configured {
		return s
	}
	share := k.share()
	s = admin.RedisStatus{Configured: true, Up: c.Up, Since: admin.TimeOrNil(c.Since), Sharing: share.Enabled, Quorum: share.Quorum}
	if c.LastError != "" {
		s.LastError = &c.LastError
	}
	return s
}

// storeErrors returns the number of failed writes to this instance's own store.
func (k *stateStore) storeErrors() uint64 { return k.local.Errors() }

// historyLimit is the maximum number of changes in a history.
const historyLimit = store.HistoryLimit

// history returns a service's state changes on this instance and, if Redis is up, in the fleet, newest first.
func (k *stateStore) history(ctx context.Context, service string) ([]events.HistoryEntry, error) {
	changes, err := k.store.History(ctx, service, historyLimit)
	if err != nil || k.redis == nil || !k.redis.Health().Up {
		return changes, err
	}
	shared, err := k.redis.History(ctx, service, historyLimit)
	if err != nil {
		return changes, nil // the health response reports that Redis is down
	}
	type key struct {
		instance string
		at       int64
		to       events.State
	}
	seen := make(map[key]bool, len(changes))
	keyOf := func(c *events.HistoryEntry) key { return key{c.Instance, c.Time.UnixNano(), c.To} }
	for i := range changes {
		seen[keyOf(&changes[i])] = true
	}
	for _, c := range shared {
		if !seen[keyOf(&c)] {
			changes = append(changes, c)
		}
	}
	slices.SortStableFunc(changes, func(a, b events.HistoryEntry) int { return b.Time.Compare(a.Time) })
	return changes[:min(len(changes), historyLimit)], nil
}
