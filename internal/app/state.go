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
	"cbproxy/proxy"
	"cbproxy/routes"
)

// keeping is what outlives the process, and what other instances share.
type keeping struct {
	instance string
	logger   *slog.Logger
	config   func() *routes.Config // in force
	server   *proxy.Server

	store store.Store  // this instance's
	redis *store.Redis // nil if none is configured
	fleet *fleet.Fleet // nil if redis is

	own    *store.Keeper // writes to store
	shared *store.Keeper // writes to redis; nil if that is
}

// openKeeping opens the stores that c names.
func openKeeping(c *routes.Config, instance string, logger *slog.Logger) (*keeping, error) {
	k := &keeping{instance: instance, logger: logger, config: func() *routes.Config { return c }}
	if err := k.openStore(c.DataDir); err != nil {
		return nil, err
	}
	k.own = store.NewKeeper(store.KeeperConfig{
		Store: k.store, Instance: instance, Services: k.services, Current: k.current, Logger: logger,
		Remembers: func(events.StateChanged) bool { return true },
	})
	if c.Redis.URL == "" {
		return k, nil
	}
	if err := k.openRedis(c.Redis); err != nil {
		_ = k.store.Close()
		return nil, err
	}
	return k, nil
}

func (k *keeping) openStore(folder string) error {
	if folder == "" {
		k.store = store.NewMemory()
		return nil
	}
	file, setAside, err := store.OpenFile(folder)
	if err != nil {
		return dataDirError(folder, err)
	}
	if setAside != "" {
		k.logger.Error("the kept state is lost", "reason", setAside)
	}
	k.store = file
	return nil
}

// dataDirError is the error of a data_dir that can't be used.
func dataDirError(folder string, err error) error {
	return fmt.Errorf("data_dir %q: %w (choose another folder, or \"\" to keep everything in memory)", folder, err)
}

func (k *keeping) openRedis(c routes.Redis) error {
	tlsConfig, err := redisTLS(c.TLS)
	if err != nil {
		return err
	}
	k.redis, err = store.NewRedis(store.RedisConfig{
		URL: c.URL, TLS: tlsConfig, Namespace: c.Namespace, Logger: k.logger,
		TTL:         func() time.Duration { return k.config().Redis.TTL },
		LargestBody: func() int64 { return largestQueuedBody(k.config()) },
	})
	if err != nil {
		return fmt.Errorf("redis.url: %w", err)
	}
	k.redis.TakeLog()
	k.shared = store.NewKeeper(store.KeeperConfig{
		Store: k.redis, Instance: k.instance, Services: k.services,
		Current: func(service string) (store.State, bool) {
			s, ok := k.current(service)
			return s, ok && !k.share().Enabled // otherwise what is kept there is the fleet's
		},
		// Who only followed has nothing to tell.
		Remembers: func(c events.StateChanged) bool { return c.Cause != events.CauseFleet },
	})
	k.fleet = fleet.New(fleet.Config{Instance: k.instance, Coordinator: k.redis, Sharing: k.share})
	return nil
}

func (k *keeping) share() fleet.Sharing {
	c := k.config().Redis
	return fleet.Sharing{Enabled: c.Share.Enabled, Quorum: c.Share.Quorum, TTL: c.TTL}
}

// Born implements proxy.Breakers: a breaker begins as it was before the process ended.
func (k *keeping) Born(service string, b *breaker.Breaker) {
	switch s, found, err := k.store.Load(context.Background(), service); {
	case err != nil:
		k.logger.Error("a breaker begins closed, as its kept state can't be read", "service", service, "error", err)
	case found:
		fleet.Restore(b, s)
	}
	if k.fleet != nil {
		k.fleet.Join(service, b)
	}
}

// Gone implements proxy.Breakers.
func (k *keeping) Gone(service string) {
	if k.fleet != nil {
		k.fleet.Leave(service)
	}
}

// run keeps what happens and takes part in the fleet until ctx is done, on goroutines that wait
// counts. It subscribes before it returns.
func (k *keeping) run(ctx context.Context, bus *events.Bus, wait *sync.WaitGroup) {
	k.keep(ctx, k.own, bus, wait)
	if k.redis == nil {
		return
	}
	k.keep(ctx, k.shared, bus, wait)
	wait.Go(func() { k.fleet.Run(ctx) })
	changes := bus.Subscribe(eventQueue)
	wait.Go(func() { k.tellFleet(ctx, changes) })
}

func (k *keeping) keep(ctx context.Context, keeper *store.Keeper, bus *events.Bus, wait *sync.WaitGroup) {
	sub := bus.Subscribe(eventQueue)
	wait.Go(func() { keeper.Run(ctx, sub) })
}

// tellFleet tells the fleet when it may have something to do.
func (k *keeping) tellFleet(ctx context.Context, sub *events.Subscription) {
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
		case events.ProbeGranted: // it was the fleet that said so
			if missed == 0 {
				continue
			}
		}
		if missed > 0 {
			service = ""
		}
		k.fleet.BreakerChanged(service)
	}
}

// close writes what is not written yet. It is for when everything else has ended.
func (k *keeping) close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	k.own.Flush(ctx)
	if err := k.store.Close(); err != nil {
		k.logger.Error("close the store", "error", err)
	}
	if k.redis != nil {
		if k.redis.Condition().Up {
			k.shared.Flush(ctx)
		}
		_ = k.redis.Close()
	}
}

const flushTimeout = 2 * time.Second

// services lists the services in force; there are none before there is a server.
func (k *keeping) services() []string {
	if k.server == nil {
		return nil
	}
	return slices.Collect(maps.Keys(k.server.Breakers()))
}

func (k *keeping) current(service string) (store.State, bool) {
	b := k.server.Breaker(service)
	if b == nil {
		return store.State{}, false
	}
	return fleet.StateOf(service, k.instance, b.Status()), true
}

func (k *keeping) epoch(service string) uint64 {
	if k.fleet == nil {
		return 0
	}
	return k.fleet.Epoch(service)
}

func (k *keeping) probing(service string) bool { return k.fleet != nil && k.fleet.IsProber(service) }

var errNoFleet = errors.New("redis.url is not set")

func (k *keeping) forceFleet(ctx context.Context, service string, state events.State, d time.Duration, reason string) error {
	if k.fleet == nil {
		return errNoFleet
	}
	return k.fleet.Force(ctx, service, state, d, reason)
}

// persistTimeout bounds how long an operator waits for the disk.
const persistTimeout = 3 * time.Second

// persist returns once the state of a service, as it is now, is in this instance's own store, or an *admin.NotPersistedError.
func (k *keeping) persist(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), persistTimeout)
	defer cancel()
	if err := k.own.Sync(ctx, service); err != nil {
		return &admin.NotPersistedError{Err: err}
	}
	return nil
}

func (k *keeping) releaseFleet(ctx context.Context, service, reason string) error {
	if k.fleet == nil {
		return errNoFleet
	}
	return k.fleet.Release(ctx, service, reason)
}

// redisCondition returns whether Redis can be used; configured is false if there is none.
func (k *keeping) redisCondition() (c store.Condition, configured bool) {
	if k.redis == nil {
		return c, false
	}
	return k.redis.Condition(), true
}

func (k *keeping) redisMetrics() (metrics.Redis, bool) {
	c, configured := k.redisCondition()
	return metrics.Redis{Up: c.Up, Operations: c.Operations, Errors: c.Errors}, configured
}

func (k *keeping) redisStatus() (s admin.RedisStatus) {
	c, configured := k.redisCondition()
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

// storeErrors counts the writes to this instance's own store that failed.
func (k *keeping) storeErrors() uint64 { return k.own.Errors() }

// historyAnswer is how many changes a history shows.
const historyAnswer = store.HistoryLimit

// history returns a service's changes here and, as far as Redis can be asked, in the fleet,
// newest first.
func (k *keeping) history(ctx context.Context, service string) ([]events.HistoryEntry, error) {
	changes, err := k.store.History(ctx, service, historyAnswer)
	if err != nil || k.redis == nil || !k.redis.Condition().Up {
		return changes, err
	}
	shared, err := k.redis.History(ctx, service, historyAnswer)
	if err != nil {
		return changes, nil // it is told by health
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
	return changes[:min(len(changes), historyAnswer)], nil
}
