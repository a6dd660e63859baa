package queue_test

import (
	"strings"
	"testing"
	"time"

	"cbproxy/internal/queue"
	"cbproxy/internal/queue/mirror"
	"cbproxy/internal/redistest"
)

// answerIfAlive makes the upstream, when it is up, take an instance's messages only while Redis has a heartbeat of the instance.
func (s *instance) answerIfAlive(server *redistest.Server) {
	client := server.Client()
	s.answer = func() (queue.Answer, error) {
		s.to.mu.Lock()
		defer s.to.mu.Unlock()
		if n, err := client.Exists(s.t.Context(), "cbproxy_queue:{svc}:alive:"+s.store.ID()).Result(); err != nil || n == 0 || !s.to.up {
			return refuse()
		}
		s.to.from[s.name]++
		return queue.Answer{Status: 200}, nil
	}
}

func (u *sharedUpstream) count(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.from[name]
}

// An instance whose messages were taken over delivers none of them while it removes them, which takes many heartbeats.
func TestReturningInstanceDeliversNothingBeforeItHasReconciled(t *testing.T) {
	redistest.Need(t)
	const n = 500
	for name, test := range map[string]struct {
		cutOff  bool // the instance continues to run without Redis
		allowed int  // the message that is being sent when Redis answers again
	}{
		"after a start":     {false, 0},
		"after a partition": {true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			relay := redistest.StartRelay(t, server.Address())
			to := &sharedUpstream{from: map[string]int{}}
			timings := quickTimings
			timings.Expiry *= 2
			a := newInstance(t, "a", "redis://"+relay.Address(), to, timings)
			a.intervals.Heartbeat /= 10
			a.answerIfAlive(server)
			a.start()
			a.accept(numbered("m", n)...)
			eventually(t, "all have copies", func() bool { return copies(t, server) == n })
			if test.cutOff {
				relay.Cut()
			} else {
				a.crash()
			}
			b := newInstance(t, "b", server.URL(), to, timings)
			b.answer = refuse
			b.start()
			eventually(t, "b has taken over", func() bool { return b.queues.Status("svc").TakenOver == n })
			to.set(true)
			if test.cutOff {
				relay.Mend()
			} else {
				a.start()
			}
			eventually(t, "a has released its messages", func() bool { return a.queues.Status("svc").Waiting == 0 })
			if delivered := to.count("a"); delivered > test.allowed {
				t.Errorf("a has delivered %d messages", delivered)
			}
		})
	}
}

// An instance whose heartbeats succeed sends them in time whatever else fails, because it goes on delivering.
func TestErrorsDoNotDelayHeartbeats(t *testing.T) {
	t.Parallel()
	heartbeats := make(chan bool, 1000)
	server := redistest.StartScripted(t, nil, func(command []string) string {
		if strings.EqualFold(command[0], "evalsha") && strings.Contains(command[3], ":alive:") {
			heartbeats <- true
			return "*2\r\n:1\r\n:0\r\n"
		}
		return "-ERR broken\r\n"
	})
	timings := mirror.Timings{Heartbeat: 50 * time.Millisecond, Expiry: 6 * time.Second, TakeoverCheck: time.Second}
	to := &sharedUpstream{from: map[string]int{}}
	a := startInstance(t, "a", "redis://"+server.Address(), to, timings)
	for range 30 {
		select {
		case <-heartbeats:
		case <-time.After(timings.Expiry):
			t.Fatal("the heartbeat has expired")
		}
	}
	to.set(true)
	a.accept("m0")
	eventually(t, "it is delivered", func() bool { return len(to.taken()) == 1 })
}
