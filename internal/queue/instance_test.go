package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
	"cbproxy/internal/queue/mirror"
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

	intervals mirror.Timings
	queues    *queue.Queues
	store     *disk.Store
	redis     *store.Redis
	unshared  atomic.Bool                  // redis.share is disabled
	answer    func() (queue.Answer, error) // answers instead of the upstream; nil for the upstream
	stop      func()
}

// LastSuccess implements queue.Sender.
func (*instance) LastSuccess(string) time.Time { return time.Time{} }

func (s *instance) Send(_ context.Context, _ string, m *queue.Message) (queue.Answer, error) {
	if s.answer != nil {
		return s.answer()
	}
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if !s.to.up {
		return refuse()
	}
	s.to.took = append(s.to.took, string(m.Body))
	s.to.from[s.name]++
	return queue.Answer{Status: 200}, nil
}

// refuse is the answer of an upstream that refuses connections.
func refuse() (queue.Answer, error) {
	return queue.Answer{}, &queue.Failed{Reason: events.ReasonConnect, NotCausedByMessage: true, Err: errors.New("refused")}
}

func startInstance(t *testing.T, name, url string, to *sharedUpstream, intervals mirror.Timings) *instance {
	t.Helper()
	s := newInstance(t, name, url, to, intervals)
	s.start()
	return s
}

// newInstance returns an instance that is not started. The end of the test stops it.
func newInstance(t *testing.T, name, url string, to *sharedUpstream, intervals mirror.Timings) *instance {
	s := &instance{t: t, name: name, folder: t.TempDir(), url: url, to: to, intervals: intervals}
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
		Copies: s.redis.Copies(s.store.ID()), CopiesEnabled: func() bool { return !s.unshared.Load() }, CopyTimings: s.intervals,
	})
	s.configure()
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

func (s *instance) configure() {
	s.queues.Configure("svc", queue.Policy{
		Capacity: 1000, MaxAge: time.Hour, MaxAttempts: 1000, Backoff: 20 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, Ordered: true,
	})
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
