package queue_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cbproxy/internal/queue/mirror"
	"cbproxy/internal/redistest"
)

// Random failures of instances, Redis, the network and the upstream lose no accepted message and deliver no other.
func TestRandomFaultsLoseNoMessage(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server := redistest.Start(t)
	relay := redistest.StartRelay(t, server.Address())
	to := &sharedUpstream{from: map[string]int{}}
	var all []*instance
	for _, name := range []string{"a", "b", "c"} {
		s := &instance{t: t, name: name, folder: t.TempDir(), url: "redis://" + relay.Address(), to: to,
			intervals: mirror.Timings{Heartbeat: 100 * time.Millisecond, Expiry: 600 * time.Millisecond, TakeoverCheck: 150 * time.Millisecond}}
		s.start()
		all = append(all, s)
		t.Cleanup(func() {
			if s.stop != nil {
				s.stop()
			}
		})
	}
	accepted := map[string]bool{}
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) {
		s := all[random.IntN(len(all))]
		switch n := random.IntN(12); {
		case s.stop == nil:
			s.start()
		case n == 0:
			s.crash()
		case n == 1:
			s.stop()
		case n == 2:
			server.Client().FlushAll(t.Context())
		case n == 3:
			server.Restart() // this deletes all data
		case n == 4:
			relay.Blackhole(random.IntN(2) == 0)
		case n == 5:
			server.Client().ConfigSet(t.Context(), "maxmemory", []string{"0", "1"}[random.IntN(2)])
		case n == 6:
			to.set(random.IntN(2) == 0)
		default:
			body := fmt.Sprint("m", len(accepted))
			s.accept(body)
			accepted[body] = true
		}
	}
	relay.Blackhole(false)
	server.Client().ConfigSet(t.Context(), "maxmemory", "0")
	for _, s := range all {
		if s.stop == nil {
			s.start()
		}
	}
	to.set(true)
	eventually(t, "no message waits, and no copy is left", func() bool {
		for _, s := range all {
			if s.queues.Status("svc").Waiting > 0 {
				return false
			}
		}
		n, err := server.Client().XLen(t.Context(), "cbproxy_queue:{svc}").Result()
		return err == nil && n == 0
	})
	times := map[string]int{}
	for _, body := range to.taken() {
		times[body]++
		if !accepted[body] {
			t.Errorf("%s was delivered and never accepted", body)
		}
	}
	for body := range accepted {
		if times[body] == 0 {
			t.Errorf("%s is lost", body)
		}
	}
	t.Logf("%d requests were delivered %d times", len(accepted), len(to.taken()))
}
