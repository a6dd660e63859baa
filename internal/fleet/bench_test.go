package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/fleet"
)

// These benchmarks measure a whole fleet in one process, with a real Redis. Each runs once for any
// -benchtime, and reports its own metrics instead of ns/op.

const (
	benchInstances = 200
	benchServices  = 5
	benchFailMax   = 5
	benchNamespace = "bench:"
	benchTTL       = time.Hour
	// benchTimeout limits each wait. It is longer than any wait takes on a slow machine.
	benchTimeout = 60 * time.Second
)

// benchPolicy has short openings, which still last until all instances have received them.
var benchPolicy = breaker.Policy{
	Limits:  algorithm.Limits{Window: 30 * time.Second},
	FailMax: benchFailMax, RecoveryTimeout: 1500 * time.Millisecond, HalfOpenRequests: 1,
}

var (
	sharing    = fleet.Sharing{Enabled: true, Quorum: 1, TTL: benchTTL}
	notSharing = fleet.Sharing{Quorum: 1, TTL: benchTTL}
)

// BenchmarkFleetOpens measures the time from when one instance opens its breaker until each of
// the other instances has opened its own.
func BenchmarkFleetOpens(b *testing.B) {
	const rounds = 4
	c := newTestFleet(b, benchInstances, benchServices, sharing)
	c.waitIdle()
	var delays []time.Duration
	for round := range rounds {
		for i, service := range c.services {
			first := (round*len(c.services) + i) * 37 % len(c.instances) // a different instance each time
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

// open fails calls of one instance until its breaker opens, and returns how much later each of
// the other instances opened.
func (c *testFleet) open(first int, service string) []time.Duration {
	own := c.instances[first].breakers[service]
	for range benchFailMax {
		call, err := own.Allow()
		if err != nil {
			c.b.Fatalf("%s is not closed at the start: %v", service, err)
		}
		call.Failure(&events.Failure{Time: time.Now(), Type: events.ErrorConnect}, time.Millisecond)
	}
	c.await("all instances open "+service, func() bool { return c.all(service, events.Open) })
	delays := make([]time.Duration, 0, len(c.instances)-1)
	for i, other := range c.instances {
		if i != first {
			delays = append(delays, other.breakers[service].since(events.Open)-own.since(events.Open))
		}
	}
	return delays
}

// recover makes probes succeed until all breakers are closed. BenchmarkFleetDeadUpstream measures
// the recovery with constant traffic.
func (c *testFleet) recover() {
	c.await("all instances close", func() bool {
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

// probe makes a call at the prober and at a random instance: a prober may release its lease to
// instances that have calls, and without calls no instance would acquire it.
func (c *testFleet) probe(service string) {
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

// BenchmarkFleetDeadUpstream measures how many calls reach an upstream while it fails, and how
// long after its recovery all instances use it again.
func BenchmarkFleetDeadUpstream(b *testing.B) {
	b.Run("sharing", func(b *testing.B) { benchmarkOutage(b, sharing) })
	b.Run("alone", func(b *testing.B) { benchmarkOutage(b, notSharing) })
}

func benchmarkOutage(b *testing.B, share fleet.Sharing) {
	const (
		each        = 50 * time.Millisecond // between one instance's calls
		healthyTime = time.Second
		outageTime  = 6 * time.Second
	)
	c := newTestFleet(b, benchInstances, benchServices, share)
	c.waitIdle()
	service, u := c.services[0], new(upstream)
	c.traffic(each, func(i *instance, _ int) { u.serve(i.breakers[service]) })
	time.Sleep(healthyTime)
	u.dead.Store(true)
	time.Sleep(outageTime)
	for _, i := range c.instances {
		if i.breakers[service].since(events.Open) == 0 {
			b.Fatal("a breaker did not open while the upstream failed")
		}
	}
	u.dead.Store(false)
	returned := time.Since(benchStart)
	c.await("all instances close", func() bool { return c.all(service, events.Closed) })

	var closings []time.Duration
	for _, i := range c.instances {
		closings = append(closings, i.breakers[service].since(events.Closed))
	}
	first, last := slices.Min(closings), slices.Max(closings)
	b.ReportMetric(float64(u.failed.Load()), "dead-calls")
	b.ReportMetric(float64(u.failedProbes.Load()), "dead-probes")
	b.ReportMetric(float64(u.probes.Load()), "probes")
	b.ReportMetric(float64(u.mostProbing.Load()), "probes-at-once")
	b.ReportMetric(milliseconds(last-returned), "recovery-ms")   // includes the remaining time of the opening
	b.ReportMetric(milliseconds(last-first), "first-to-last-ms") // of the closings
	b.ReportMetric(0, "ns/op")
}

// upstream responds, or fails if it is dead, and counts the calls that reach it.
type upstream struct {
	dead                         atomic.Bool
	failed, failedProbes, probes atomic.Int64
	probing, mostProbing         atomic.Int64 // concurrently
}

// serve simulates one client call.
func (u *upstream) serve(b *observedBreaker) {
	const latency = 5 * time.Millisecond
	call, err := b.Allow()
	if err != nil {
		return
	}
	probe := call.State == events.HalfOpen
	if probe {
		u.probes.Add(1)
		u.recordProbing(u.probing.Add(1))
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

func (u *upstream) recordProbing(probing int64) {
	for {
		most := u.mostProbing.Load()
		if probing <= most || u.mostProbing.CompareAndSwap(most, probing) {
			return
		}
	}
}

// BenchmarkFleetIdle measures the load on Redis while no breaker changes. It depends on the number
// of instances and services, but not on the number of calls. The fleets run concurrently, each
// with its own Redis, because the measurement takes long.
func BenchmarkFleetIdle(b *testing.B) {
	fleets := []*idleFleet{
		{instances: benchInstances, services: benchServices},
		{instances: benchInstances, services: benchServices, calls: 100},
		{instances: benchInstances / 4, services: benchServices},
		{instances: benchInstances, services: 1},
	}
	for _, f := range fleets {
		f.fleet = newTestFleet(b, f.instances, f.services, sharing)
	}
	for _, f := range fleets {
		f.fleet.waitIdle()
	}
	for _, f := range fleets {
		if f.calls > 0 {
			f.fleet.traffic(time.Second/time.Duration(f.calls), f.fleet.succeed)
		}
	}
	time.Sleep(idleBegin)
	for _, f := range fleets {
		f.before = f.fleet.load()
	}
	time.Sleep(idleWindow)
	for _, f := range fleets {
		f.after = f.fleet.load()
	}
	for _, f := range fleets {
		b.Run(f.name(), f.report)
	}
}

// All instances started at the same time, and therefore merge at about the same time, 30 s to 36 s
// after the last merge. The window is the mean of that, and ends after the latest possible merge: it
// contains one merge of each instance, as any window of its length does on average. A shorter one
// might contain none.
const (
	idleBegin  = 36*time.Second + 500*time.Millisecond - idleWindow
	idleWindow = 33 * time.Second
)

// idleFleet is a fleet in which no breaker changes.
type idleFleet struct {
	instances, services, calls int // calls: successful ones per instance and second

	fleet         *testFleet
	before, after redisLoad
}

func (f *idleFleet) name() string {
	return fmt.Sprintf("instances=%d,services=%d,calls=%d", f.instances, f.services, f.calls)
}

// report reports the requests to Redis, and what Redis counts as commands, which includes each
// command within a script. One of them is the benchmark's own.
func (f *idleFleet) report(b *testing.B) {
	seconds := f.after.at.Sub(f.before.at).Seconds()
	b.ReportMetric(float64(f.after.commands-f.before.commands-1)/seconds, "commands/s")
	b.ReportMetric(float64(f.after.scripts-f.before.scripts)/seconds, "scripts/s")
	b.ReportMetric(float64(f.after.pings-f.before.pings)/seconds, "pings/s")
	b.ReportMetric(0, "ns/op")
}

// succeed makes one successful call to one of the services.
func (c *testFleet) succeed(i *instance, n int) {
	call, err := i.breakers[c.services[n%len(c.services)]].Allow()
	if err != nil {
		c.b.Errorf("an idle fleet rejects a call: %v", err)
		return
	}
	call.Success(time.Millisecond)
}
