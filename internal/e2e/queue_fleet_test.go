package e2e

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/redistest"
)

// queueFleet starts proxies whose queues are copied to the Redis at url.
func queueFleet(t testing.TB, n int, url string, u *upstreamProcess) []*proxyProcess {
	t.Helper()
	return startFleet(t, n, options{config: queueRoute(u, "") + "redis: {url: " + url + "}\n"})
}

// copied waits until n requests have copies in Redis.
func copied(t testing.TB, server *redistest.Server, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests have copies", n), func() bool {
		got, err := server.Client().XLen(t.Context(), "cbproxy_queue:{svc}").Result()
		return err == nil && got == n
	})
}

// takenOver waits until a proxy has taken over n requests. It may do so when the heartbeat of their
// previous owner has expired.
func awaitTakenOver(p *proxyProcess, n float64) {
	p.t.Helper()
	for deadline := time.Now().Add(2 * patience); p.metric(`cbproxy_queue_taken_over_total{service="svc"}`) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%v of %v requests were taken over", p.metric(`cbproxy_queue_taken_over_total{service="svc"}`), n)
		}
	}
}

func TestQueueOfKilledProxyIsTakenOver(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := newRecorder(t)
	fleet := queueFleet(t, 2, server.URL(), u.upstreamProcess)
	bodies := numbered("a", 10)
	fleet[0].mustQueue(bodies...)
	copied(t, server, 10)
	fleet[0].kill()
	awaitTakenOver(fleet[1], 10)
	u.start()
	t.Cleanup(u.kill)
	u.awaitTaken(bodies...)
	fleet[1].drained()
	copied(t, server, 0)
	fleet[0].start() // its disk still holds the requests
	eventually(t, "it knows that they are delivered", func() bool { s, _ := fleet[0].backlog(); return s.Waiting == 0 })
	fleet[0].post("again")
	u.awaitTaken(append(bodies, "again")...)
}

// TestQueueOfStoppedProxyIsTakenOverImmediately checks that the fleet does not wait for the heartbeat of a
// proxy that shut down to expire.
func TestQueueOfStoppedProxyIsTakenOverImmediately(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := newRecorder(t)
	fleet := queueFleet(t, 2, server.URL(), u.upstreamProcess)
	bodies := numbered("a", 5)
	fleet[0].mustQueue(bodies...)
	copied(t, server, 5)
	fleet[0].signal(syscall.SIGTERM)
	fleet[0].wait()
	u.start()
	t.Cleanup(u.kill)
	awaitTakenOver(fleet[1], 5)
	u.awaitTaken(bodies...)
}

// TestRedisDataLossLosesNoQueuedRequest checks that no request is lost if Redis loses its data and a proxy
// is killed while Redis is down.
func TestRedisDataLossLosesNoQueuedRequest(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := newRecorder(t)
	fleet := queueFleet(t, 2, server.URL(), u.upstreamProcess)
	fleet[0].mustQueue(numbered("a", 5)...)
	copied(t, server, 5)
	server.Kill()
	fleet[0].mustQueue(numbered("b", 5)...)
	fleet[0].kill()
	fleet[0].start()
	fleet[0].mustQueue(numbered("c", 5)...)
	server.Restart()
	copied(t, server, 15)
	fleet[0].kill()
	awaitTakenOver(fleet[1], 15)
	u.start()
	t.Cleanup(u.kill)
	u.awaitTaken(append(append(numbered("a", 5), numbered("b", 5)...), numbered("c", 5)...)...)
}

// TestPoisonRequestDoesNotBlockOtherInstances checks that a request that always fails in the queue of one
// instance does not open the breaker of other instances, even after one of them takes it over.
func TestPoisonRequestDoesNotBlockOtherInstances(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := newRecorder(t)
	fleet := queueFleet(t, 2, server.URL(), u.upstreamProcess)
	fleet[0].mustQueue("poison", "good-1", "good-2")
	copied(t, server, 3)
	u.answer(rule{In: "poison", Status: 500})
	u.start()
	t.Cleanup(u.kill)
	u.awaitTaken("good-1", "good-2")
	served := func(n int) {
		t.Helper()
		eventually(t, "a GET is served", func() bool { return fleet[1].get("/svc/read").header.Get("X-Fallback") == "" })
		for range n {
			if r := fleet[1].get("/svc/read"); r.status != http.StatusOK || r.header.Get("X-Fallback") != "" {
				t.Fatalf("a GET: %+v", r)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	served(50)
	fleet[0].kill()
	awaitTakenOver(fleet[1], 1)
	eventually(t, "it has failed again", func() bool { _, all := fleet[1].backlog(); return len(all) == 1 && all[0].Attempts > 2 })
	served(50)
	eventually(t, "a POST is not queued", func() bool {
		r := fleet[1].post("straight")
		return r.status == http.StatusOK && r.header.Get("X-Fallback") == ""
	})
	u.answer()
	fleet[1].drained()
	copied(t, server, 0)
}

// TestQueueDeliversDuringRedisFaults checks that neither accepting nor delivering requests waits for Redis.
func TestQueueDeliversDuringRedisFaults(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	for name, trouble := range map[string]func(*redistest.Server) (end func()){
		"killed": func(s *redistest.Server) func() { s.Kill(); return s.Restart },
		"paused": func(s *redistest.Server) func() { s.Pause(); return s.Resume },
		"out of memory": func(s *redistest.Server) func() {
			s.Client().ConfigSet(t.Context(), "maxmemory", "1")
			return func() { s.Client().ConfigSet(t.Context(), "maxmemory", "0") }
		},
		"wrong type": func(s *redistest.Server) func() {
			s.Client().Set(t.Context(), "cbproxy_queue:{svc}", "what", 0)
			return func() { s.Client().Del(t.Context(), "cbproxy_queue:{svc}") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			u := newRecorder(t)
			p := queueFleet(t, 1, server.URL(), u.upstreamProcess)[0]
			end := trouble(server)
			start := time.Now()
			p.mustQueue(numbered("a", 5)...)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("5 requests took %v", took)
			}
			u.start()
			t.Cleanup(u.kill)
			u.awaitTaken(numbered("a", 5)...)
			end()
			p.drained()
			u.kill()
			p.mustQueue("b")
			copied(t, server, 1)
		})
	}
}
