package queue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cbproxy/internal/queue"
	"cbproxy/internal/queue/mirror"
	"cbproxy/internal/redistest"
	"cbproxy/internal/testenv"
)

// quickTimings make a failed instance be replaced after a second.
var quickTimings = mirror.Timings{Heartbeat: 100 * time.Millisecond, Expiry: time.Second, TakeoverCheck: 100 * time.Millisecond}

// Each instance that returns learns that its messages were taken over, also those that it had itself taken over from another one.
func TestMessagesAreTakenOverRepeatedly(t *testing.T) {
	redistest.Need(t)
	for _, test := range []struct {
		name  string
		chain []string // the instances that have the messages, one after the other
	}{
		{"by the first one", []string{"a", "b", "a"}},
		{"by a third one", []string{"a", "b", "c"}},
		{"often", []string{"a", "b", "c", "b", "a", "c"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			to := &sharedUpstream{from: map[string]int{}}
			all := map[string]*instance{"a": startInstance(t, "a", server.URL(), to, quickTimings)}
			sent := numbered("m", 20)
			all["a"].accept(sent...)
			eventually(t, "all have copies", func() bool { return copies(t, server) == 20 })
			for i, name := range test.chain[1:] {
				all[test.chain[i]].crash()
				if s := all[name]; s != nil {
					s.start()
				} else {
					all[name] = startInstance(t, name, server.URL(), to, quickTimings)
				}
				returns := slices.Contains(test.chain[:i], name)
				eventually(t, name+" has taken over and released what it had before", func() bool {
					s := all[name].queues.Status("svc")
					return s.TakenOver == 20 && s.Waiting == 20 && (s.Released == 20) == returns
				})
				if n := copies(t, server); n != 20 {
					t.Errorf("%d copies", n)
				}
			}
			for name, s := range all {
				if s.stop != nil {
					continue
				}
				s.start()
				eventually(t, name+" has released what it had before", func() bool {
					status := s.queues.Status("svc")
					return status.Released == 20 && status.Waiting == 0
				})
			}
			to.set(true)
			eventually(t, "no copy is left", func() bool { return copies(t, server) == 0 })
			if got := to.taken(); !slices.Equal(got, sent) {
				t.Errorf("delivered: %q", got)
			}
		})
	}
}

// A message that is being sent when it is to be released is released after the attempt, if that fails.
func TestMessageInFlightIsReleasedLater(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	relay := redistest.StartRelay(t, server.Address())
	to := &sharedUpstream{from: map[string]int{}}
	a := newInstance(t, "a", "redis://"+relay.Address(), to, quickTimings)
	sending, end := make(chan bool, 100), make(chan bool)
	a.answer = func() (queue.Answer, error) {
		sending <- true
		<-end
		return refuse()
	}
	a.start()
	defer close(end)
	b := startInstance(t, "b", server.URL(), to, quickTimings)
	a.accept("m0", "m1")
	<-sending
	eventually(t, "all have copies", func() bool { return copies(t, server) == 2 })
	relay.Blackhole(true)
	eventually(t, "b has taken over", func() bool { return b.queues.Status("svc").TakenOver == 2 })
	relay.Blackhole(false)
	eventually(t, "a has released the other message", func() bool { return a.queues.Status("svc").Released == 1 })
	end <- true
	go func() {
		for range sending {
			end <- true
		}
	}()
	eventually(t, "a has released both", func() bool { s := a.queues.Status("svc"); return s.Released == 2 && s.Waiting == 0 })
	to.set(true)
	eventually(t, "no copy is left", func() bool { return copies(t, server) == 0 })
	if got := to.taken(); len(got) != 2 {
		t.Errorf("delivered: %q", got)
	}
}

// Messages that were taken over before an error are counted.
func TestTakeoversBeforeErrorAreCounted(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client()
	to := &sharedUpstream{from: map[string]int{}}
	a := startInstance(t, "a", server.URL(), to, quickTimings)
	a.accept(numbered("m", 5)...)
	eventually(t, "all have copies", func() bool { return copies(t, server) == 5 })
	a.crash()
	// The takeover of this copy fails, because the index of its store has another type. Consumers are in alphabetical order.
	last := client.XRange(t.Context(), "cbproxy_queue:{svc}", "-", "+").Val()[4].Values
	client.XAdd(t.Context(), &redis.XAddArgs{Stream: "cbproxy_queue:{svc}", Values: []any{"origin", "~", "seq", "1", "payload", last["payload"]}})
	client.Set(t.Context(), "cbproxy_queue:{svc}:index:~", "what", 0)
	b := startInstance(t, "b", server.URL(), to, quickTimings)
	b.accept("x") // makes the group assign the copy
	eventually(t, "b has counted all", func() bool { s := b.queues.Status("svc"); return s.TakenOver == 6 && s.Waiting == 7 })
}

// An instance that cannot store what it has claimed leaves it to another one.
func TestInstanceWithFullDiskLeavesTakeoversToOthers(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	folder := testenv.MountDisk(t, "16m")
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	a, b := startInstance(t, "a", server.URL(), to, quickTimings), newInstance(t, "b", server.URL(), to, quickTimings)
	b.folder = folder
	b.start()
	testenv.FillDisk(t, folder)
	large := strings.Repeat("x", 100_000) // which does not fit into the free pages of the file
	a.accept(large+"0", large+"1", large+"2")
	eventually(t, "all have copies", func() bool { return copies(t, server) == 3 })
	a.crash()
	eventually(t, "b has claimed them", func() bool {
		consumers, _ := server.Client().XInfoConsumers(t.Context(), "cbproxy_queue:{svc}", "cbproxy").Result()
		return slices.ContainsFunc(consumers, func(c redis.XInfoConsumer) bool { return c.Name == b.store.ID()+"/adopting" })
	})
	c := startInstance(t, "c", server.URL(), to, quickTimings)
	eventually(t, "c has taken over", func() bool { return c.queues.Status("svc").TakenOver == 3 })
	if !b.alive(server) || b.queues.Status("svc").TakenOver != 0 {
		t.Errorf("b: %+v", b.queues.Status("svc"))
	}
}
