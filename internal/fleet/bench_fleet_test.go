package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/fleet"
	"cbproxy/internal/redistest"
	"cbproxy/internal/store"
)

// testFleet is the instances of a fleet and their Redis.
type testFleet struct {
	b         *testing.B
	client    *redis.Client // for measurements only
	sharing   bool
	services  []string
	instances []*instance

	ctx     context.Context // stops all goroutines
	running sync.WaitGroup
}

// newTestFleet starts a Redis and n instances, and stops them when the benchmark ends.
func newTestFleet(b *testing.B, n, services int, share fleet.Sharing) *testFleet {
	b.Helper()
	server := redistest.Start(b)
	c := &testFleet{b: b, client: server.Client(), sharing: share.Enabled}
	ctx, cancel := context.WithCancel(context.Background())
	c.ctx = ctx
	b.Cleanup(func() {
		cancel()
		c.running.Wait()
		for _, i := range c.instances {
			i.close()
		}
	})
	for i := range services {
		c.services = append(c.services, fmt.Sprintf("service-%d", i))
	}
	for i := range n {
		c.add(fmt.Sprintf("instance-%d", i), server.URL(), share)
	}
	return c
}

// instance is what one process has, except for its proxy.
type instance struct {
	store    *store.Redis
	fleet    *fleet.Fleet
	bus      events.Bus
	breakers map[string]*observedBreaker // by service
}

// add starts an instance, configured as in the proxy.
func (c *testFleet) add(name, url string, share fleet.Sharing) {
	redisStore, err := store.NewRedis(store.RedisConfig{
		URL: url, Namespace: benchNamespace, Logger: slog.New(slog.DiscardHandler),
		TTL: func() time.Duration { return benchTTL },
	})
	if err != nil {
		c.b.Fatal(err)
	}
	i := &instance{store: redisStore, breakers: map[string]*observedBreaker{}}
	c.instances = append(c.instances, i)
	i.fleet = fleet.New(fleet.Config{Instance: name, Coordinator: redisStore, Sharing: func() fleet.Sharing { return share }})
	for _, service := range c.services {
		s := newObservedBreaker(service, &i.bus)
		i.breakers[service] = s
		i.fleet.Join(service, s.Breaker)
	}
	changes := i.bus.Subscribe(1024)
	c.running.Go(func() { i.fleet.Run(c.ctx) })
	c.running.Go(func() {
		defer changes.Close()
		i.forwardChanges(c.ctx, changes)
	})
}

// forwardChanges notifies the fleet of breaker changes until ctx is done.
func (i *instance) forwardChanges(ctx context.Context, changes *events.Subscription) {
	for {
		e, missed, err := changes.Next(ctx)
		if err != nil {
			return
		}
		change, ok := e.(events.StateChanged)
		if missed > 0 || !ok {
			change.Service = ""
		}
		i.fleet.BreakerChanged(change.Service)
	}
}

func (i *instance) close() {
	for _, b := range i.breakers {
		b.Close()
	}
	_ = i.store.Close()
}

// benchStart is the reference of recorded times, so that they fit into an atomic integer.
var benchStart = time.Now()

// observedBreaker is a breaker that records when it entered each state.
type observedBreaker struct {
	*breaker.Breaker
	changed [len(events.States)]atomic.Int64 // ns since benchStart; 0 if never
}

func newObservedBreaker(service string, bus *events.Bus) *observedBreaker {
	s := new(observedBreaker)
	s.Breaker = breaker.New(service, benchPolicy, func(e events.Event) {
		if change, ok := e.(events.StateChanged); ok {
			s.changed[change.To].Store(int64(change.Time.Sub(benchStart)))
		}
		bus.Publish(e)
	})
	return s
}

// since returns when the breaker last entered a state.
func (s *observedBreaker) since(state events.State) time.Duration {
	return time.Duration(s.changed[state].Load())
}

// all reports whether the breaker of a service is in a state at every instance.
func (c *testFleet) all(service string, state events.State) bool {
	for _, i := range c.instances {
		if i.breakers[service].State() != state {
			return false
		}
	}
	return true
}

// traffic makes each instance call at a constant rate until the benchmark ends. n counts an
// instance's calls. The instances start at random times.
func (c *testFleet) traffic(every time.Duration, call func(i *instance, n int)) {
	for _, i := range c.instances {
		c.running.Go(func() {
			first := time.NewTimer(rand.N(every))
			defer first.Stop()
			select {
			case <-first.C:
			case <-c.ctx.Done():
				return
			}
			pace := time.NewTicker(every)
			defer pace.Stop()
			for n := 0; c.ctx.Err() == nil; n++ {
				call(i, n)
				select {
				case <-pace.C:
				case <-c.ctx.Done():
				}
			}
		})
	}
}

// waitIdle waits until all instances listen and have merged their states with Redis, and send no
// more requests.
func (c *testFleet) waitIdle() {
	const calm = 300 * time.Millisecond
	channel := benchNamespace + "circuit_breaker_events"
	c.await("all instances listen", func() bool {
		listeners, err := c.client.PubSubNumSub(c.ctx, channel).Result()
		return err == nil && listeners[channel] == int64(len(c.instances))
	})
	least := int64(0)
	if c.sharing {
		least = int64(len(c.instances) * len(c.services))
	}
	c.await("all instances have merged their states", func() bool {
		before := c.load().scripts
		time.Sleep(calm)
		return before >= least && c.load().scripts == before
	})
}

// await waits until done returns true. It fails the benchmark after benchTimeout.
func (c *testFleet) await(what string, done func() bool) {
	c.b.Helper()
	for deadline := time.Now().Add(benchTimeout); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.b.Fatalf("not within %v: %s", benchTimeout, what)
		}
	}
}

// redisLoad is the number of commands that a Redis has executed until a time.
type redisLoad struct {
	at       time.Time
	commands int64 // as counted by Redis
	scripts  int64 // script calls
	pings    int64
}

// load sends one command, which Redis counts only in its next response.
func (c *testFleet) load() redisLoad {
	c.b.Helper()
	text, err := c.client.Info(c.ctx, "all").Result()
	if err != nil {
		c.b.Fatal(err)
	}
	counts := map[string]int64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value, _, _ = strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			counts[name] = n
		}
	}
	commands, known := counts["total_commands_processed"]
	if !known {
		c.b.Fatal("Redis does not report total_commands_processed")
	}
	return redisLoad{
		at: time.Now(), commands: commands, pings: counts["cmdstat_ping"],
		scripts: counts["cmdstat_evalsha"] + counts["cmdstat_eval"],
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
