package queue_test

import (
	"slices"
	"testing"
	"time"

	"cbproxy/internal/queue/mirror"
	"cbproxy/internal/redistest"
)

func TestInstanceTakesOverMessagesOfFailedOne(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	a, b := startInstance(t, "a", server.URL(), to, mirror.Timings{}), startInstance(t, "b", server.URL(), to, mirror.Timings{})
	sent := numbered("a", 20)
	a.accept(sent...)
	b.accept("b0")
	eventually(t, "all have copies", func() bool { return copies(t, server) == 21 })
	a.crash()
	eventually(t, "b has taken over", func() bool { return b.queues.Status("svc").TakenOver == 20 })
	to.set(true)
	want := append([]string{"b0"}, sent...)
	eventually(t, "all are delivered", func() bool { return len(to.taken()) == 21 })
	if got := to.taken(); !slices.Equal(got, want) {
		t.Errorf("delivered: %q", got)
	}
	eventually(t, "no copy is left", func() bool { return copies(t, server) == 0 })
	to.set(false)
	a.start() // its store still has the messages
	eventually(t, "a has released the messages that b took over", func() bool { s := a.queues.Status("svc"); return s.Released == 20 && s.Waiting == 0 })
	to.set(true)
	a.accept("a20")
	eventually(t, "a delivers again", func() bool { return len(to.taken()) == 22 })
	if got := to.taken(); got[21] != "a20" || to.from["a"] != 1 {
		t.Errorf("delivered in the end: %q", got)
	}
}

func TestLossOfRedisDataLosesNoMessage(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	// An instance compares the counts for many heartbeats before it copies again. Frequent ones keep the test short. The others are the defaults.
	intervals := mirror.Timings{Heartbeat: 200 * time.Millisecond, Expiry: 12 * time.Second, TakeoverCheck: 4 * time.Second}
	a, b := startInstance(t, "a", server.URL(), to, intervals), startInstance(t, "b", server.URL(), to, intervals)
	a.accept(numbered("a", 10)...)
	eventually(t, "all have copies", func() bool { return copies(t, server) == 10 })
	server.Client().FlushAll(t.Context())
	eventually(t, "all have copies again", func() bool { return copies(t, server) == 10 })
	server.Client().Del(t.Context(), "cbproxy_queue:{svc}")
	eventually(t, "all have copies for the third time", func() bool { return copies(t, server) == 10 })
	server.Kill()
	a.accept("a10", "a11") // Accept does not wait for Redis
	server.Restart()
	eventually(t, "the messages accepted during the outage have copies", func() bool { return copies(t, server) == 12 })
	a.crash()
	to.set(true)
	eventually(t, "b has delivered all", func() bool { return len(to.taken()) == 12 })
	if got := to.taken(); !slices.Equal(got, numbered("a", 12)) || to.from["b"] != 12 {
		t.Errorf("delivered: %q by %v", got, to.from)
	}
	_ = b
}

// While Redis is unavailable, messages are delivered from the local store.
func TestQueueDeliversWhileRedisIsUnavailable(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	relay := redistest.StartRelay(t, server.Address())
	to := &sharedUpstream{from: map[string]int{}}
	a := startInstance(t, "a", "redis://"+relay.Address(), to, mirror.Timings{})
	a.accept(numbered("a", 5)...)
	eventually(t, "all have copies", func() bool { return copies(t, server) == 5 })
	relay.Blackhole(true)
	a.accept("a5")
	to.set(true)
	eventually(t, "all are delivered", func() bool { return len(to.taken()) == 6 })
	if got := to.taken(); !slices.Equal(got, numbered("a", 6)) {
		t.Errorf("delivered: %q", got)
	}
	relay.Blackhole(false)
	eventually(t, "the copies are removed", func() bool { return copies(t, server) == 0 })
}
