package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/fleet"
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
	sharing = fleet.Sharing{Enabled: true, Quorum: 1, TTL: benchTTL}
	alone   = fleet.Sharing{Quorum: 1, TTL: benchTTL}
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
		if n != chance && !i.fleet.IsProber(service) {
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

func dieAndReturn(b *testing.B, share fleet.Sharing) {
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
