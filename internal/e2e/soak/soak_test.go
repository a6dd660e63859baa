package soak

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cbproxy/internal/redistest"
)

var (
	soakDuration = flag.Duration("soak", 0, "minimum duration of the soak test, at least 15s; 0 skips the test")
	soakSeed     = flag.Uint64("soakseed", 0, "seed of the random faults and requests; 0 selects a random seed")
)

// conditionTimeout limits each wait. The longest is for a decision that an instance has missed: it reads the decision
// from Redis within half a minute.
const conditionTimeout = 90 * time.Second

// maxReported is the number of violations of one kind that are reported.
const maxReported = 5

// soakTest is a fleet under load and faults, with the data that the checks need.
type soakTest struct {
	t         *testing.T
	seed      uint64
	redis     *redistest.Server
	client    *redis.Client
	upstreams map[string]*upstream
	fleet     []*instance
	quiet     atomic.Bool  // no fault is active, and the fleet has recovered
	version   atomic.Int64 // of the latest configuration

	requests     requestLog
	counts       clientCounts
	faults       faultCounts
	measurements measurements

	violations sync.Map // number of violations, *atomic.Int64, by kind
}

func startSoakTest(t *testing.T, seed uint64) *soakTest {
	t.Helper()
	redistest.Need(t)
	s := &soakTest{t: t, seed: seed, redis: redistest.Start(t), upstreams: map[string]*upstream{}}
	s.client = s.redis.Client()
	for _, name := range upstreamNames {
		s.upstreams[name] = startUpstream(t)
	}
	for n := range fleetSize {
		s.fleet = append(s.fleet, startInstance(t, n, s.config(0)))
	}
	for _, p := range s.fleet[:stableInstances] {
		p.events = listen(t, p)
	}
	return s
}

// random returns a random number generator for one purpose, so that its numbers do not depend on the speed of other
// goroutines.
func (s *soakTest) random(purpose string, n int) *rand.Rand {
	h := uint64(n)
	for _, c := range purpose {
		h = h*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(s.seed, h))
}

// reportf fails the test because of a violation. It reports the first maxReported of each kind.
func (s *soakTest) reportf(kind, format string, args ...any) {
	n, _ := s.violations.LoadOrStore(kind, new(atomic.Int64))
	if n.(*atomic.Int64).Add(1) <= maxReported {
		s.t.Errorf("%s, at %s: %s", kind, time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...)) // UTC, as in the proxies' logs
	}
	s.t.Fail()
}

// await polls check until it returns nil. It ends the test after conditionTimeout; description states the condition in
// the failure message.
func (s *soakTest) await(description string, check func() error) {
	s.t.Helper()
	err := check()
	for deadline := time.Now().Add(conditionTimeout); err != nil; err = check() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s: %v", conditionTimeout, description, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// require returns nil if ok, and otherwise the error with the given text.
func require(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// TestSoak runs a fleet under load while upstreams and instances are killed, Redis fails, configurations
// are edited and operators force breakers. Responses must be valid, no accepted request may be lost, and
// counters must match. Without faults the fleet must recover and release all resources.
func TestSoak(t *testing.T) {
	if *soakDuration == 0 {
		t.Skip("set -soak to a duration to run this test")
	}
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s := startSoakTest(t, seed)
	t.Logf("%v with -soakseed %d", *soakDuration, seed)
	stopProgress := s.logProgress()
	defer stopProgress()
	faultPhase := min(max(*soakDuration/6, 5*time.Second), 45*time.Second)
	start := time.Now()
	for round := 0; round < 2 || time.Since(start) < *soakDuration; round++ {
		load := s.startLoad(round)
		s.injectFaults(round, faultPhase)
		s.awaitRecovery()
		s.quiet.Store(true)
		s.awaitUpstreamResponses(load)
		load.end()
		s.quiet.Store(false)
		s.checkInvariants()
		s.measure()
	}
	stopProgress()
	s.checkLeaks()
	s.replayRecords()
	s.logSummary(time.Since(start))
}
