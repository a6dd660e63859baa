package queue

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// startQueueFleet starts n proxies that copy their queues to the Redis at url.
func startQueueFleet(t testing.TB, n int, url string, u *harness.Upstream) []*harness.Proxy {
	t.Helper()
	return harness.StartFleet(t, n, harness.Options{Config: harness.QueueConfig(u, "") + "redis: {url: " + url + "}\n"})
}

// awaitCopies waits until Redis has copies of exactly n requests.
func awaitCopies(t testing.TB, server *redistest.Server, n int64) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("Redis has copies of %d requests", n), func() bool {
		got, err := server.Client().XLen(t.Context(), "cbproxy_queue:{svc}").Result()
		return err == nil && got == n
	})
}

// awaitTakenOver waits until a proxy has taken over n requests. It allows twice the usual time, because a proxy takes over
// requests only when the heartbeat of their owner has expired.
func awaitTakenOver(p *harness.Proxy, n float64) {
	p.T.Helper()
	for deadline := time.Now().Add(2 * harness.EventTimeout); p.Metric(`cbproxy_queue_taken_over_total{service="svc"}`) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.T.Fatalf("%v of %v requests were taken over", p.Metric(`cbproxy_queue_taken_over_total{service="svc"}`), n)
		}
	}
}

// TestQueueOfKilledProxyIsTakenOver checks that another proxy delivers the queue of a killed one, and that the killed one
// does not deliver it again when it starts.
func TestQueueOfKilledProxyIsTakenOver(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := harness.NewRecorder(t)
	fleet := startQueueFleet(t, 2, server.URL(), u.Upstream)
	bodies := harness.Numbered("a", 10)
	fleet[0].MustQueue(bodies...)
	awaitCopies(t, server, 10)
	fleet[0].Kill()
	awaitTakenOver(fleet[1], 10)
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered(bodies...)
	fleet[1].AwaitEmptyQueue()
	awaitCopies(t, server, 0)
	fleet[0].Start() // its data_dir still has the requests
	harness.Eventually(t, "the restarted proxy drops the delivered requests", func() bool { s, _ := fleet[0].Queue(); return s.Waiting == 0 })
	fleet[0].Post("again")
	u.AwaitDelivered(append(bodies, "again")...)
}

// TestQueueOfStoppedProxyIsTakenOverImmediately checks that another proxy takes over the queue of a proxy that has shut down
// before its heartbeat expires.
func TestQueueOfStoppedProxyIsTakenOverImmediately(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := harness.NewRecorder(t)
	fleet := startQueueFleet(t, 2, server.URL(), u.Upstream)
	bodies := harness.Numbered("a", 5)
	fleet[0].MustQueue(bodies...)
	awaitCopies(t, server, 5)
	fleet[0].Signal(syscall.SIGTERM)
	fleet[0].Wait()
	u.Start()
	t.Cleanup(u.Kill)
	awaitTakenOver(fleet[1], 5)
	u.AwaitDelivered(bodies...)
}

// TestRedisDataLossLosesNoQueuedRequest checks that no request is lost if Redis loses its data and a proxy
// is killed while Redis is down.
func TestRedisDataLossLosesNoQueuedRequest(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := harness.NewRecorder(t)
	fleet := startQueueFleet(t, 2, server.URL(), u.Upstream)
	fleet[0].MustQueue(harness.Numbered("a", 5)...)
	awaitCopies(t, server, 5)
	server.Kill()
	fleet[0].MustQueue(harness.Numbered("b", 5)...)
	fleet[0].Kill()
	fleet[0].Start()
	fleet[0].MustQueue(harness.Numbered("c", 5)...)
	server.Restart()
	awaitCopies(t, server, 15)
	fleet[0].Kill()
	awaitTakenOver(fleet[1], 15)
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered(append(append(harness.Numbered("a", 5), harness.Numbered("b", 5)...), harness.Numbered("c", 5)...)...)
}

// TestPoisonRequestDoesNotBlockOtherInstances checks that a request that always fails in the queue of one instance does not
// open the breakers of other instances, even if one of them takes it over.
func TestPoisonRequestDoesNotBlockOtherInstances(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := harness.NewRecorder(t)
	fleet := startQueueFleet(t, 2, server.URL(), u.Upstream)
	fleet[0].MustQueue("poison", "good-1", "good-2")
	awaitCopies(t, server, 3)
	u.SetRules(harness.Rule{In: "poison", Status: 500})
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered("good-1", "good-2")
	mustServe := func(n int) {
		t.Helper()
		harness.Eventually(t, "a GET is served", func() bool { return fleet[1].Get("/svc/read").Header.Get("X-Fallback") == "" })
		for range n {
			if r := fleet[1].Get("/svc/read"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
				t.Fatalf("a GET: %+v", r)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	mustServe(50)
	fleet[0].Kill()
	awaitTakenOver(fleet[1], 1)
	harness.Eventually(t, "the request has failed again", func() bool { _, all := fleet[1].Queue(); return len(all) == 1 && all[0].Attempts > 2 })
	mustServe(50)
	harness.Eventually(t, "a POST is not queued", func() bool {
		r := fleet[1].Post("direct")
		return r.Status == http.StatusOK && r.Header.Get("X-Fallback") == ""
	})
	u.SetRules()
	fleet[1].AwaitEmptyQueue()
	awaitCopies(t, server, 0)
}

// TestQueueDeliversDuringRedisFaults checks that neither accepting nor delivering requests waits for Redis.
func TestQueueDeliversDuringRedisFaults(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	for name, begin := range map[string]func(*redistest.Server) (end func()){
		"killed": func(s *redistest.Server) func() { s.Kill(); return s.Restart },
		"paused": func(s *redistest.Server) func() { s.Pause(); return s.Resume },
		"out of memory": func(s *redistest.Server) func() {
			s.Client().ConfigSet(t.Context(), "maxmemory", "1")
			return func() { s.Client().ConfigSet(t.Context(), "maxmemory", "0") }
		},
		"wrong type": func(s *redistest.Server) func() {
			s.Client().Set(t.Context(), "cbproxy_queue:{svc}", "not a stream", 0)
			return func() { s.Client().Del(t.Context(), "cbproxy_queue:{svc}") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			u := harness.NewRecorder(t)
			p := startQueueFleet(t, 1, server.URL(), u.Upstream)[0]
			end := begin(server)
			start := time.Now()
			p.MustQueue(harness.Numbered("a", 5)...)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("5 requests took %v", took)
			}
			u.Start()
			t.Cleanup(u.Kill)
			u.AwaitDelivered(harness.Numbered("a", 5)...)
			end()
			p.AwaitEmptyQueue()
			u.Kill()
			p.MustQueue("b")
			awaitCopies(t, server, 1)
		})
	}
}

// TestProxyTakesOverNothingForRemovedService checks that a proxy takes over no requests for a service that a reload has removed,
// because it could not deliver them, until another reload restores the service.
func TestProxyTakesOverNothingForRemovedService(t *testing.T) {
	t.Parallel()
	redistest.Need(t)
	server := redistest.Start(t)
	u := harness.StartRecorder(t)
	fleet := startQueueFleet(t, 2, server.URL(), u.Upstream)
	redis := "redis: {url: " + server.URL() + "}\n"
	harness.ForceState(t, fleet[0], "open")
	bodies := harness.Numbered("a", 5)
	fleet[0].MustQueue(bodies...)
	awaitCopies(t, server, 5)
	fleet[1].ReplaceConfig(fmt.Sprintf("routes: {other: {prefix: /other, upstream: %s}}\n", u.URL()) + redis)
	harness.Eventually(t, "the service is removed", func() bool { return fleet[1].Health().Services["svc"].State == "" })
	fleet[0].Signal(syscall.SIGTERM)
	fleet[0].Wait()
	const operations = "cbproxy_redis_operations_total"
	before := fleet[1].Metric(operations)
	harness.Eventually(t, "the proxy has sent several heartbeats", func() bool { return fleet[1].Metric(operations) >= before+3 })
	if s, all := fleet[1].Queue(); s.Waiting != 0 || len(all) != 0 {
		t.Errorf("taken over: %+v, %+v", s, all)
	}
	fleet[1].ReplaceConfig(harness.QueueConfig(u.Upstream, "") + redis)
	harness.Eventually(t, "the service is restored", func() bool { return fleet[1].Health().Services["svc"].State != "" })
	awaitTakenOver(fleet[1], 5)
	u.AwaitDelivered(bodies...)
}
