package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
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

// These benchmarks measure a whole fleet in one process, with a real Redis. Each of them runs
// once, however often it is asked to: what it reports are its metrics, not the time it took.

const (
	benchInstances = 200
	benchServices  = 5
	benchFailMax   = 5
	benchNamespace = "bench:"
	benchTTL       = time.Hour
	// benchPatience is for what is bound to happen: more than it takes on the slowest machine.
	benchPatience = 60 * time.Second
)

// benchPolicy has openings that are short, but not over before everybody has heard of them.
var benchPolicy = breaker.Policy{
	FailMax: benchFailMax, Window: 30 * time.Second, RecoveryTimeout: 1500 * time.Millisecond, HalfOpenRequests: 1,
}

var (
	sharing = fleet.Share{Enabled: true, Quorum: 1, TTL: benchTTL}
	alone   = fleet.Share{Quorum: 1, TTL: benchTTL}
)

// BenchmarkFleetOpens measures how long it takes from one instance's finding that an upstream
// is dead until each of the others has opened its breaker.
func BenchmarkFleetOpens(b *testing.B) {
	const rounds = 4
	c := newCrowd(b, benchInstances, benchServices, sharing)
	c.settle()
	var delays []time.Duration
	for round := range rounds {
		for i, service := range c.services {
			first := (round*len(c.services) + i) * 37 % len(c.instances) // each time another one
			delays = append(delays, c.open(first, service)...)
		}
		c.recover()
	}
	slices.Sort(delays)
	b.ReportMetric(milliseconds(delays[len(delays)/2]), "p50-ms")
	b.ReportMetric(milliseconds(delays[len(delays)*99/100]), "p99-ms")
	b.ReportMetric(milliseconds(delays[len(delays)-1]), "last-ms")
	b.ReportMetric(0, "ns/op")
}

// open lets the calls of one instance fail until its breaker opens, and returns how much later
// each of the others opened.
func (c *crowd) open(first int, service string) []time.Duration {
	own := c.instances[first].breakers[service]
	for range benchFailMax {
		call, err := own.Allow()
		if err != nil {
			c.b.Fatalf("%s is not closed at first: %v", service, err)
		}
		call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, time.Millisecond)
	}
	c.await("everybody opens "+service, func() bool { return c.all(service, events.Open) })
	delays := make([]time.Duration, 0, len(c.instances)-1)
	for i, other := range c.instances {
		if i != first {
			delays = append(delays, other.breakers[service].since(events.Open)-own.since(events.Open))
		}
	}
	return delays
}

// recover lets the probes succeed until all breakers are closed. How recovery goes with steady
// traffic is another benchmark's business.
func (c *crowd) recover() {
	c.await("everybody closes", func() bool {
		closed := true
		for _, service := range c.services {
			if !c.all(service, events.Closed) {
				closed = false
				c.probe(service)
			}
		}
		return closed
	})
}

// probe calls from whoever may probe, and from somebody: a prober may give way to those that
// have calls, and without any nobody would follow it.
func (c *crowd) probe(service string) {
	chance := rand.N(len(c.instances))
	for n, i := range c.instances {
		if n != chance && !i.fleet.Probing(service) {
			continue
		}
		if call, err := i.breakers[service].Allow(); err == nil {
			call.Success(time.Millisecond)
		}
	}
}

// BenchmarkFleetDeadUpstream measures what an upstream gets to see of the calls while it is
// dead, and how soon after its return everybody uses it again.
func BenchmarkFleetDeadUpstream(b *testing.B) {
	b.Run("sharing", func(b *testing.B) { dieAndReturn(b, sharing) })
	b.Run("alone", func(b *testing.B) { dieAndReturn(b, alone) })
}

func dieAndReturn(b *testing.B, share fleet.Share) {
	const (
		each   = 50 * time.Millisecond // between one instance's calls
		health = time.Second
		death  = 6 * time.Second
	)
	c := newCrowd(b, benchInstances, benchServices, share)
	c.settle()
	service, u := c.services[0], new(upstream)
	c.traffic(each, func(i *instance, _ int) { u.serve(i.breakers[service]) })
	time.Sleep(health)
	u.dead.Store(true)
	time.Sleep(death)
	for _, i := range c.instances {
		if i.breakers[service].since(events.Open) == 0 {
			b.Fatal("a breaker did not open while the upstream was dead")
		}
	}
	u.dead.Store(false)
	returned := time.Since(benchStart)
	c.await("everybody closes", func() bool { return c.all(service, events.Closed) })

	var closings []time.Duration
	for _, i := range c.instances {
		closings = append(closings, i.breakers[service].since(events.Closed))
	}
	first, last := slices.Min(closings), slices.Max(closings)
	b.ReportMetric(float64(u.failed.Load()), "dead-calls")
	b.ReportMetric(float64(u.failedProbes.Load()), "dead-probes")
	b.ReportMetric(float64(u.probes.Load()), "probes")
	b.ReportMetric(float64(u.mostProbing.Load()), "probes-at-once")
	b.ReportMetric(milliseconds(last-returned), "recovery-ms")   // with what was left of the opening
	b.ReportMetric(milliseconds(last-first), "first-to-last-ms") // of the closings
	b.ReportMetric(0, "ns/op")
}

// An upstream answers, or fails if it is dead, and counts what reaches it.
type upstream struct {
	dead                         atomic.Bool
	failed, failedProbes, probes atomic.Int64
	probing, mostProbing         atomic.Int64 // at one moment
}

// serve is one client's call.
func (u *upstream) serve(b *seenBreaker) {
	const latency = 5 * time.Millisecond
	call, err := b.Allow()
	if err != nil {
		return
	}
	probe := call.State == events.HalfOpen
	if probe {
		u.probes.Add(1)
		u.see(u.probing.Add(1))
		defer u.probing.Add(-1)
	}
	dead := u.dead.Load()
	time.Sleep(latency)
	if !dead {
		call.Success(latency)
		return
	}
	u.failed.Add(1)
	if probe {
		u.failedProbes.Add(1)
	}
	call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, latency)
}

func (u *upstream) see(probing int64) {
	for {
		most := u.mostProbing.Load()
		if probing <= most || u.mostProbing.CompareAndSwap(most, probing) {
			return
		}
	}
}

// BenchmarkFleetIdle measures what Redis is asked while no breaker changes: by how many
// instances and services there are, but not by how many calls are served. The fleets run side
// by side, each with a Redis of its own, because the window has to be long.
func BenchmarkFleetIdle(b *testing.B) {
	fleets := []*idleFleet{
		{instances: benchInstances, services: benchServices},
		{instances: benchInstances, services: benchServices, calls: 100},
		{instances: benchInstances / 4, services: benchServices},
		{instances: benchInstances, services: 1},
	}
	for _, f := range fleets {
		f.crowd = newCrowd(b, f.instances, f.services, sharing)
	}
	for _, f := range fleets {
		f.crowd.settle()
	}
	for _, f := range fleets {
		if f.calls > 0 {
			f.crowd.traffic(time.Second/time.Duration(f.calls), f.crowd.succeed)
		}
	}
	time.Sleep(idleBegin)
	for _, f := range fleets {
		f.before = f.crowd.load()
	}
	time.Sleep(idleWindow)
	for _, f := range fleets {
		f.after = f.crowd.load()
	}
	for _, f := range fleets {
		b.Run(f.name(), f.report)
	}
}

// All instances began at the same time, and so compare at the same time, 30 s to 36 s after they
// did last. The window is the mean of that, and ends when the last one must have: it has
// one round, as any window of its length has once they have drifted apart. A short one would
// have none.
const (
	idleBegin  = 36*time.Second + 500*time.Millisecond - idleWindow
	idleWindow = 33 * time.Second
)

// An idleFleet is a fleet in which nothing happens.
type idleFleet struct {
	instances, services, calls int // calls are an instance's in a second, which succeed

	crowd         *crowd
	before, after redisLoad
}

func (f *idleFleet) name() string {
	return fmt.Sprintf("instances=%d,services=%d,calls=%d", f.instances, f.services, f.calls)
}

// report tells both what came over the wire and what Redis counts as commands, which includes
// each command within a script. One of them was this benchmark's own.
func (f *idleFleet) report(b *testing.B) {
	seconds := f.after.at.Sub(f.before.at).Seconds()
	b.ReportMetric(float64(f.after.commands-f.before.commands-1)/seconds, "commands/s")
	b.ReportMetric(float64(f.after.scripts-f.before.scripts)/seconds, "scripts/s")
	b.ReportMetric(float64(f.after.pings-f.before.pings)/seconds, "pings/s")
	b.ReportMetric(0, "ns/op")
}

// succeed is one call to one of the services.
func (c *crowd) succeed(i *instance, n int) {
	call, err := i.breakers[c.services[n%len(c.services)]].Allow()
	if err != nil {
		c.b.Errorf("an idle fleet refuses a call: %v", err)
		return
	}
	call.Success(time.Millisecond)
}

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
func newCrowd(b *testing.B, n, services int, share fleet.Share) *crowd {
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
func (c *crowd) add(name, url string, share fleet.Share) {
	board, err := store.NewRedis(store.RedisConfig{
		URL: url, Namespace: benchNamespace, Logger: slog.New(slog.DiscardHandler),
		TTL: func() time.Duration { return benchTTL },
	})
	if err != nil {
		c.b.Fatal(err)
	}
	i := &instance{store: board, breakers: map[string]*seenBreaker{}}
	c.instances = append(c.instances, i)
	i.fleet = fleet.New(fleet.Config{Instance: name, Board: board, Share: func() fleet.Share { return share }})
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
		i.fleet.Changed(change.Service)
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
