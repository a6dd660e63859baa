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

// A crowd is a fleet's instances, with their Redis.
type crowd struct {
	b         *testing.B
	client    *redis.Client // for measuring only
	sharing   bool
	services  []string
	instances []*instance

	ctx     context.Context // ends everything
	running sync.WaitGroup
}

// newCrowd starts a Redis and n instances, which end with the benchmark.
func newCrowd(b *testing.B, n, services int, share fleet.Sharing) *crowd {
	b.Helper()
	server := redistest.Start(b)
	c := &crowd{b: b, client: server.Client(), sharing: share.Enabled}
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

// An instance is what one process has, but for its proxy.
type instance struct {
	store    *store.Redis
	fleet    *fleet.Fleet
	bus      events.Bus
	breakers map[string]*seenBreaker // by service
}

// add starts an instance, put together as the proxy does it.
func (c *crowd) add(name, url string, share fleet.Sharing) {
	board, err := store.NewRedis(store.RedisConfig{
		URL: url, Namespace: benchNamespace, Logger: slog.New(slog.DiscardHandler),
		TTL: func() time.Duration { return benchTTL },
	})
	if err != nil {
		c.b.Fatal(err)
	}
	i := &instance{store: board, breakers: map[string]*seenBreaker{}}
	c.instances = append(c.instances, i)
	i.fleet = fleet.New(fleet.Config{Instance: name, Coordinator: board, Sharing: func() fleet.Sharing { return share }})
	for _, service := range c.services {
		s := newSeenBreaker(service, &i.bus)
		i.breakers[service] = s
		i.fleet.Join(service, s.Breaker)
	}
	changes := i.bus.Subscribe(1024)
	c.running.Go(func() { i.fleet.Run(c.ctx) })
	c.running.Go(func() {
		defer changes.Close()
		i.tellFleet(c.ctx, changes)
	})
}

// tellFleet tells the fleet when it may have something to do.
func (i *instance) tellFleet(ctx context.Context, changes *events.Subscription) {
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

// benchStart is what times are counted from, so that they fit into an atomic number.
var benchStart = time.Now()

// A seenBreaker is a breaker that remembers when it went into each state.
type seenBreaker struct {
	*breaker.Breaker
	changed [len(events.States)]atomic.Int64 // ns from benchStart, 0 if it never did
}

func newSeenBreaker(service string, bus *events.Bus) *seenBreaker {
	s := new(seenBreaker)
	s.Breaker = breaker.New(service, benchPolicy, func(e events.Event) {
		if change, ok := e.(events.StateChanged); ok {
			s.changed[change.To].Store(int64(change.Time.Sub(benchStart)))
		}
		bus.Publish(e)
	})
	return s
}

// since returns when the breaker last went into a state.
func (s *seenBreaker) since(state events.State) time.Duration {
	return time.Duration(s.changed[state].Load())
}

// all tells whether everybody's breaker of a service is in a state.
func (c *crowd) all(service string, state events.State) bool {
	for _, i := range c.instances {
		if i.breakers[service].State() != state {
			return false
		}
	}
	return true
}

// traffic makes each instance call at a steady pace until the benchmark ends. n counts an
// instance's calls. The instances are not in step, as clients are not.
func (c *crowd) traffic(every time.Duration, call func(i *instance, n int)) {
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

// settle waits until everybody listens and has compared what it knows with Redis: then nobody
// asks any more.
func (c *crowd) settle() {
	const calm = 300 * time.Millisecond
	channel := benchNamespace + "circuit_breaker_events"
	c.await("everybody listens", func() bool {
		listeners, err := c.client.PubSubNumSub(c.ctx, channel).Result()
		return err == nil && listeners[channel] == int64(len(c.instances))
	})
	least := int64(0)
	if c.sharing {
		least = int64(len(c.instances) * len(c.services))
	}
	c.await("everybody knows what Redis knows", func() bool {
		before := c.load().scripts
		time.Sleep(calm)
		return before >= least && c.load().scripts == before
	})
}

// await waits until something has happened.
func (c *crowd) await(what string, done func() bool) {
	c.b.Helper()
	for deadline := time.Now().Add(benchPatience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.b.Fatalf("not within %v: %s", benchPatience, what)
		}
	}
}

// redisLoad is what a Redis has done until a moment.
type redisLoad struct {
	at       time.Time
	commands int64 // by its own count
	scripts  int64 // that it was asked to run
	pings    int64
}

// load asks with a single command, which counts only in the next answer.
func (c *crowd) load() redisLoad {
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
		c.b.Fatal("Redis does not tell how many commands it has processed")
	}
	return redisLoad{
		at: time.Now(), commands: commands, pings: counts["cmdstat_ping"],
		scripts: counts["cmdstat_evalsha"] + counts["cmdstat_eval"],
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
