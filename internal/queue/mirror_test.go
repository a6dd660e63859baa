package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
	"cbproxy/internal/redistest"
	"cbproxy/internal/store"
)

// sharedUpstream is the upstream that all instances of a test deliver to.
type sharedUpstream struct {
	mu   sync.Mutex
	up   bool
	took []string // bodies
	from map[string]int
}

func (u *sharedUpstream) set(up bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.up = up
}

func (u *sharedUpstream) taken() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.took)
}

// instance is a running proxy instance whose queue has copies in Redis.
type instance struct {
	t      *testing.T
	name   string
	folder string
	url    string
	to     *sharedUpstream

	intervals queue.CopyTimings
	queues    *queue.Queues
	store     *disk.Store
	redis     *store.Redis
	stop      func()
}

// LastSuccess implements queue.Sender.
func (*instance) LastSuccess(string) time.Time { return time.Time{} }

func (s *instance) Send(_ context.Context, _ string, m *queue.Message) (queue.Answer, error) {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if !s.to.up {
		return queue.Answer{}, &queue.Failed{Reason: events.ReasonConnect, NotCausedByMessage: true, Err: errors.New("refused")}
	}
	s.to.took = append(s.to.took, string(m.Body))
	s.to.from[s.name]++
	return queue.Answer{Status: 200}, nil
}

func startInstance(t *testing.T, name, url string, to *sharedUpstream, intervals queue.CopyTimings) *instance {
	t.Helper()
	s := &instance{t: t, name: name, folder: t.TempDir(), url: url, to: to, intervals: intervals}
	s.start()
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

func (s *instance) start() {
	s.t.Helper()
	logger := slog.New(slog.NewTextHandler(testLog{s.t, s.name}, nil))
	var err error
	if s.store, _, err = disk.Open(s.folder); err != nil {
		s.t.Fatal(err)
	}
	if s.redis, err = store.NewRedis(store.RedisConfig{URL: s.url, Logger: logger, TTL: func() time.Duration { return time.Hour }}); err != nil {
		s.t.Fatal(err)
	}
	s.queues = queue.New(queue.Config{
		Store: s.store, Bus: new(events.Bus), Logger: logger,
		Copies: s.redis.Copies(s.store.ID()), CopiesEnabled: func() bool { return true }, CopyTimings: s.intervals,
	})
	s.queues.Configure("svc", queue.Policy{
		Capacity: 1000, MaxAge: time.Hour, MaxAttempts: 1000, Backoff: 20 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, Ordered: true,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.queues.Run(ctx, s) }()
	s.stop = func() {
		cancel()
		<-done
		_ = s.redis.Close()
		_ = s.store.Close()
		s.stop = nil
	}
}

type testLog struct {
	t    *testing.T
	name string
}

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Logf("%s: %s", l.name, p)
	}
	return len(p), nil
}

func (s *instance) accept(bodies ...string) {
	s.t.Helper()
	for _, body := range bodies {
		err := s.queues.Accept(s.t.Context(), "svc", &queue.Message{
			Method: "POST", Path: "/svc", Header: http.Header{}, Body: []byte(body), Accepted: time.Now(),
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// crash ends the instance without removing its heartbeat from Redis, as if the process were killed.
func (s *instance) crash() {
	_ = s.redis.Close()
	s.stop()
}

// eventuallyTimeout bounds the wait for an event. It only ends a test that fails, so it is long enough for a busy machine.
const eventuallyTimeout = 3 * time.Minute

// eventually waits until done returns true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(eventuallyTimeout); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", eventuallyTimeout, what)
		}
	}
}

func numbered(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// copies returns how many copies there are in Redis.
func copies(t *testing.T, server *redistest.Server) int64 {
	t.Helper()
	n, err := server.Client().XLen(t.Context(), "cbproxy_queue:{svc}").Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInstanceTakesOverMessagesOfFailedOne(t *testing.T) {
	redistest.Need(t)
	t.Parallel()
	server := redistest.Start(t)
	to := &sharedUpstream{from: map[string]int{}}
	a, b := startInstance(t, "a", server.URL(), to, queue.CopyTimings{}), startInstance(t, "b", server.URL(), to, queue.CopyTimings{})
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
	intervals := queue.CopyTimings{Heartbeat: 200 * time.Millisecond, Expiry: 12 * time.Second, TakeoverCheck: 4 * time.Second}
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
	a := startInstance(t, "a", "redis://"+relay.Address(), to, queue.CopyTimings{})
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
