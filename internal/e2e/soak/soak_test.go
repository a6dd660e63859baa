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

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

var (
	soakFor  = flag.Duration("soak", 0, "how long the soak lasts, 15s at least; 0 is none")
	soakSeed = flag.Uint64("soakseed", 0, "what the soak's faults and requests are drawn from; 0 is something else each time")
)

// soakTimeout bounds what takes longest: what one instance has missed it learns from Redis within half a
// minute.
const soakTimeout = 90 * time.Second

// soak is a fleet under load and faults, and what is known of both.
type soak struct {
	t         *testing.T
	seed      uint64
	redis     *redistest.Server
	client    *redis.Client
	upstreams map[string]*soakUpstream
	fleet     []*soakProxy
	calm      atomic.Bool // no fault is under way, and everything has recovered
	version   atomic.Int64

	ledger  ledger
	tally   tally
	faults  faultCount
	figures figures

	complaints sync.Map // *atomic.Int64 by kind
}

// soakProxy is one instance.
type soakProxy struct {
	*harness.Proxy
	n      int
	elder  bool           // it is never killed
	events *eventListener // of an elder
	busy   sync.Mutex     // held while it is down, or its configuration is one that it would not start with
	downs  atomic.Int64   // odd while it is down, or may be
	faulty int            // faulty edits; guarded by busy

	surrendered bool // others have taken over what it had queued; belongs to the test's goroutine
}

// upSince reports whether the instance has been up all the while since downs was what it is.
func (p *soakProxy) upSince(downs int64) bool { return downs%2 == 0 && p.downs.Load() == downs }

const (
	soakFleet  = 4
	soakElders = 2
)

func startSoak(t *testing.T, seed uint64) *soak {
	t.Helper()
	redistest.Need(t)
	s := &soak{t: t, seed: seed, redis: redistest.Start(t), upstreams: map[string]*soakUpstream{}}
	s.client = s.redis.Client()
	for _, name := range soakUpstreams {
		s.upstreams[name] = startSoakUpstream(t)
	}
	for n := range soakFleet {
		p := &soakProxy{Proxy: harness.StartProxy(t, harness.Options{Config: s.config(0)}), n: n, elder: n < soakElders}
		p.AwaitRedis(true)
		s.fleet = append(s.fleet, p)
	}
	for _, p := range s.fleet[:soakElders] {
		p.events = listen(t, p)
	}
	return s
}

// random returns a source of its own for each purpose, so that what one draws doesn't depend on how fast
// the others are.
func (s *soak) random(purpose string, n int) *rand.Rand {
	h := uint64(n)
	for _, c := range purpose {
		h = h*31 + uint64(c)
	}
	return rand.New(rand.NewPCG(s.seed, h))
}

// complain counts a violation and reports the first of each kind.
func (s *soak) complain(kind, format string, args ...any) {
	n, _ := s.complaints.LoadOrStore(kind, new(atomic.Int64))
	if n.(*atomic.Int64).Add(1) <= 5 {
		s.t.Errorf("%s, at %s: %s", kind, time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...)) // as in the logs
	}
	s.t.Fail()
}

// within is eventually with a longer timeout.
func (s *soak) within(what string, done func() string) {
	s.t.Helper()
	missing := done()
	for deadline := time.Now().Add(soakTimeout); missing != ""; missing = done() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %v: %s: %s", soakTimeout, what, missing)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestSoak runs a fleet under load while upstreams and instances are killed, Redis fails, configurations
// are edited and operators force breakers. Responses must be valid, no accepted request may be lost, and
// counters must match. Without faults the fleet must recover and release all resources.
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("set -soak to a duration to run this test")
	}
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s := startSoak(t, seed)
	t.Logf("%v with -soakseed %d", *soakFor, seed)
	stop := s.logProgress()
	defer stop()
	storm := min(max(*soakFor/6, 5*time.Second), 45*time.Second)
	begin := time.Now()
	for spell := 0; spell < 2 || time.Since(begin) < *soakFor; spell++ {
		load := s.startLoad(spell)
		s.storm(spell, storm)
		s.recover()
		s.calm.Store(true)
		s.checkAllAnswer(load)
		load.end()
		s.calm.Store(false)
		s.checkInvariants()
		s.measure()
	}
	stop()
	s.checkLeaks()
	s.report(time.Since(begin))
}
