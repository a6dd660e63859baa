package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
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

	baselines *baselines // of this instance

	local  *store.Persister // writes to store
	shared *store.Persister // writes to redis; nil if redis is nil
}

// openStateStore opens the stores that the configuration names.
func openStateStore(config *activeConfig, instance string, logger *slog.Logger) (*stateStore, error) {
	s := &stateStore{instance: instance, logger: logger, config: config}
	c := config.config()
	s.baselines = &baselines{
		breakers: func() map[string]*breaker.Breaker { return s.breakers.All() }, logger: logger, written: map[string][]byte{},
	}
	if err := s.openStore(c.DataDir); err != nil {
		return nil, err
	}
	if c.Redis.URL != "" {
		if err := s.openRedis(c.Redis); err != nil {
			_ = s.store.Close()
			return nil, err
		}
	}
	s.breakers = breaker.NewRegistry(breaker.RegistryHooks{Added: s.restore, Removed: s.leaveFleet})
	s.newPersisters()
	return s, nil
}

// newPersisters creates the persisters of both stores. The shared one does not write states that the fleet itself decides.
func (s *stateStore) newPersisters() {
	s.local = store.NewPersister(store.PersisterConfig{
		Store: s.store, Instance: s.instance, Services: s.services, Current: s.current, Logger: s.logger,
		RecordsHistory: func(events.StateChanged) bool { return true },
	})
	if s.redis == nil {
		return
	}
	s.shared = store.NewPersister(store.PersisterConfig{
		Store: s.redis, Instance: s.instance, Services: s.services,
		Current: func(service string) (store.State, bool) {
			state, ok := s.current(service)
			return state, ok && !s.share().Enabled // while sharing, the fleet writes the state in Redis
		},
		// A change that only follows the fleet's decision is recorded by the instance that caused the decision.
		RecordsHistory: func(c events.StateChanged) bool { return c.Cause != events.CauseFleet },
	})
}

// openStore opens the store in a folder, or in memory if folder is "".
func (s *stateStore) openStore(folder string) error {
	if folder == "" {
		s.store = store.NewMemory()
		return nil
	}
	file, quarantined, err := store.OpenFile(folder)
	if err != nil {
		return dataDirError(folder, err)
	}
	if quarantined != "" {
		s.logger.Error("persisted breaker state lost", "reason", quarantined)
	}
	s.store, s.baselines.file = file, file
	return nil
}

// dataDirError adds the unusable data_dir and advice to an error. A folder that can't be written is usual in a container
// with a read-only root file system, so the advice names the folder at which a volume has to be mounted.
func dataDirError(folder string, err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("data_dir %q: %w (user %d cannot write to %s: mount a writable volume there, set another folder, "+
			"or set data_dir: \"\" to keep everything in memory)", folder, err, os.Geteuid(), existingFolder(folder))
	}
	return fmt.Errorf("data_dir %q: %w (set another folder, or \"\" to keep everything in memory)", folder, err)
}

// existingFolder returns the absolute path of a folder, or of its nearest parent that exists.
func existingFolder(folder string) string {
	path, err := filepath.Abs(folder)
	if err != nil {
		return folder
	}
	for parent := filepath.Dir(path); parent != path; path, parent = parent, filepath.Dir(parent) {
		if _, err := os.Stat(path); err == nil {
			break
		}
	}
	return path
}

// openRedis connects to Redis and joins the fleet there.
func (s *stateStore) openRedis(c routes.Redis) error {
	reloader, err := tlsfiles.New(tlsfiles.Config(c.TLS), s.logger.With("client", "redis"))
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	s.redis, err = store.NewRedis(store.RedisConfig{
		URL: c.URL, TLS: reloader.Client(), Namespace: c.Namespace, Logger: s.logger,
		TTL:         func() time.Duration { return s.config.config().Redis.TTL },
		LargestBody: func() int64 { return largestQueuedBody(s.config.config()) },
	})
	if err != nil {
		return fmt.Errorf("redis.url: %w", err)
	}
	s.redis.RedirectClientLog()
	s.fleet = fleet.New(fleet.Config{Instance: s.instance, Coordinator: s.redis, Sharing: s.share})
	return nil
}

// share returns the current settings for sharing state.
func (s *stateStore) share() fleet.Sharing {
	c := s.config.config().Redis
	return fleet.Sharing{Enabled: c.Share.Enabled, Quorum: c.Share.Quorum, TTL: c.TTL}
}

// restore sets the persisted state of a new breaker and adds the breaker to the fleet.
func (s *stateStore) restore(service string, b *breaker.Breaker) {
	switch stored, found, err := s.store.Load(context.Background(), service); {
	case err != nil:
		s.logger.Error("cannot read persisted breaker state, starting closed", "service", service, "error", err)
	case found:
		fleet.Restore(b, stored)
	}
	s.baselines.restore(service, b)
	if s.fleet != nil {
		s.fleet.Join(service, b)
	}
}

// leaveFleet removes the breaker of a removed service from the fleet.
func (s *stateStore) leaveFleet(service string) {
	if s.fleet != nil {
		s.fleet.Leave(service)
	}
}

// run persists state changes and takes part in the fleet until ctx is done, on goroutines that it adds to wait. It
// subscribes to bus before it returns.
func (s *stateStore) run(ctx context.Context, bus *events.Bus, wait *sync.WaitGroup) {
	s.persistEvents(ctx, s.local, bus, wait)
	wait.Go(func() { s.baselines.run(ctx) })
	if s.redis == nil {
		return
	}
	s.persistEvents(ctx, s.shared, bus, wait)
	wait.Go(func() { s.fleet.Run(ctx) })
	changes := bus.Subscribe(eventBuffer)
	wait.Go(func() { s.notifyFleet(ctx, changes) })
}

// persistEvents runs p until ctx is done, on a goroutine that it adds to wait.
func (s *stateStore) persistEvents(ctx context.Context, p *store.Persister, bus *events.Bus, wait *sync.WaitGroup) {
	sub := bus.Subscribe(eventBuffer)
	wait.Go(func() { p.Run(ctx, sub) })
}

// notifyFleet reports to the fleet which breakers may have changed, until ctx is done.
func (s *stateStore) notifyFleet(ctx context.Context, sub *events.Subscription) {
	for {
		e, missed, err := sub.Next(ctx)
		if err != nil {
			return
		}
		service := ""
		switch e := e.(type) {
		case events.StateChanged:
			service = e.Service
		case events.UntilChanged:
			service = e.Service
		case events.Forced:
			service = e.Service
		case events.AdmissionChanged, events.FaultStarted, events.FaultEnded, events.OverridesChanged, events.AdaptiveReport, events.KeyStateChanged, events.ProbeGranted: // not shared, or caused by the fleet itself
			if missed == 0 {
				continue
			}
		}
		if missed > 0 {
			service = "" // all services
		}
		s.fleet.BreakerChanged(service)
	}
}

// close writes pending state and closes the stores. All goroutines of run must have ended.
func (s *stateStore) close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	s.local.Flush(ctx)
	_ = s.baselines.write() // it has logged the error
	if err := s.store.Close(); err != nil {
		s.logger.Error("cannot close the state store", "error", err)
	}
	if s.redis != nil {
		if s.redis.Health().Up {
			s.shared.Flush(ctx)
		}
		_ = s.redis.Close()
	}
}

// flushTimeout bounds how long close waits for writes.
const flushTimeout = 2 * time.Second

// services returns the names of all services.
func (s *stateStore) services() []string { return slices.Collect(maps.Keys(s.breakers.All())) }

// current returns the state of a service's breaker to persist; false if the service has none.
func (s *stateStore) current(service string) (store.State, bool) {
	b := s.breakers.Get(service)
	if b == nil {
		return store.State{}, false
	}
	return fleet.StateOf(service, s.instance, b.Status()), true
}

// epoch returns the fleet's epoch of a service, or 0 without Redis.
func (s *stateStore) epoch(service string) uint64 {
	if s.fleet == nil {
		return 0
	}
	return s.fleet.Epoch(service)
}

// probing reports whether this instance holds the fleet's probe lease of a service.
func (s *stateStore) probing(service string) bool { return s.fleet != nil && s.fleet.IsProber(service) }

var errNoFleet = errors.New("redis.url is not set")

// forceFleet forces the state of a service's breaker in the whole fleet.
func (s *stateStore) forceFleet(ctx context.Context, service string, state events.State, d time.Duration, reason string) error {
	if s.fleet == nil {
		return errNoFleet
	}
	return s.fleet.Force(ctx, service, state, d, reason)
}

// persistTimeout bounds how long an admin request waits for the disk.
const persistTimeout = 3 * time.Second

// persist writes the current state of a service to this instance's own store. Its error is an *admin.NotPersistedError.
func (s *stateStore) persist(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), persistTimeout)
	defer cancel()
	if err := s.local.Sync(ctx, service); err != nil {
		return &admin.NotPersistedError{Err: err}
	}
	return nil
}

// releaseFleet releases a breaker that was forced in the whole fleet.
func (s *stateStore) releaseFleet(ctx context.Context, service, reason string) error {
	if s.fleet == nil {
		return errNoFleet
	}
	return s.fleet.Release(ctx, service, reason)
}

// redisHealth returns the health of Redis; configured is false if redis.url is not set.
func (s *stateStore) redisHealth() (h store.Health, configured bool) {
	if s.redis == nil {
		return h, false
	}
	return s.redis.Health(), true
}

// redisMetrics returns the health of Redis for a scrape; false if redis.url is not set.
func (s *stateStore) redisMetrics() (metrics.Redis, bool) {
	c, configured := s.redisHealth()
	return metrics.Redis{Up: c.Up, Operations: c.Operations, Errors: c.Errors}, configured
}

// redisStatus returns the health of Redis for the admin API.
func (s *stateStore) redisStatus() (status admin.RedisStatus) {
	c, configured := s.redisHealth()
	if !configured {
		return status
	}
	share := s.share()
	status = admin.RedisStatus{Configured: true, Up: c.Up, Since: admin.TimeOrNil(c.Since), Sharing: share.Enabled, Quorum: share.Quorum}
	if c.LastError != "" {
		status.LastError = &c.LastError
	}
	return status
}

// storeErrors returns the number of failed writes to this instance's own store.
func (s *stateStore) storeErrors() uint64 { return s.local.Errors() }

// historyLimit is the maximum number of changes in a history.
const historyLimit = store.HistoryLimit

// history returns a service's state changes on this instance and, if Redis is up, in the fleet, newest first.
func (s *stateStore) history(ctx context.Context, service string) ([]events.HistoryEntry, error) {
	changes, err := s.store.History(ctx, service, historyLimit)
	if err != nil || s.redis == nil || !s.redis.Health().Up {
		return changes, err
	}
	shared, err := s.redis.History(ctx, service, historyLimit)
	if err != nil {
		return changes, nil // the health response reports that Redis is down
	}
	return mergeHistories(changes, shared), nil
}

// mergeHistories returns the newest entries of the histories of this instance and of the fleet, newest first. Changes of this instance may
// be in both: it returns one entry for each combination of instance, time and new state.
func mergeHistories(local, shared []events.HistoryEntry) []events.HistoryEntry {
	type key struct {
		instance string
		at       int64
		to       events.State
	}
	seen := make(map[key]bool, len(local))
	keyOf := func(c *events.HistoryEntry) key { return key{c.Instance, c.Time.UnixNano(), c.To} }
	for i := range local {
		seen[keyOf(&local[i])] = true
	}
	for _, c := range shared {
		if !seen[keyOf(&c)] {
			local = append(local, c)
		}
	}
	slices.SortStableFunc(local, func(a, b events.HistoryEntry) int { return b.Time.Compare(a.Time) })
	return local[:min(len(local), historyLimit)]
}
