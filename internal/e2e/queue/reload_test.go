package queue

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestReloadsDuringDeliveryLoseNothing checks that each request is delivered once while reloads change, disable and remove
// the queue.
func TestReloadsDuringDeliveryLoseNothing(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	config := func(n int) string {
		c := harness.QueueConfig(u.Upstream, fmt.Sprintf("capacity: %d", 1000+n))
		switch n % 3 {
		case 1: // remove the service
			return strings.Replace(c, "{svc: {prefix: /svc", "{other: {prefix: /other", 1)
		case 2: // disable the queue
			return strings.Replace(c, "[queue, static]", "[static]", 1)
		}
		return c
	}
	p := harness.StartProxy(t, harness.Options{Config: config(0)})
	bodies := harness.Numbered("m", 60)
	p.MustQueue(bodies...)
	u.SetRules(harness.Rule{Status: 200, Delay: 10 * time.Millisecond})
	u.Start()
	t.Cleanup(u.Kill)
	for n := 1; len(u.SuccessfulBodies()) < len(bodies) && n < 100; n++ {
		p.ReplaceConfig(config(n))
		reload(p)
	}
	p.ReplaceConfig(config(0))
	reload(p)
	p.AwaitEmptyQueue()
	if got, duplicates := u.UniqueBodies(); !slices.Equal(got, bodies) || duplicates > 0 {
		t.Errorf("delivered %q, and %d duplicates", got, duplicates)
	}
}

// TestShutdownDuringDeliveryLosesNothing checks that each request is delivered once although the proxy is restarted.
func TestShutdownDuringDeliveryLosesNothing(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	bodies := harness.Numbered("m", 30)
	p.MustQueue(bodies...)
	u.SetRules(harness.Rule{Status: 200, Delay: 30 * time.Millisecond})
	u.Start()
	t.Cleanup(u.Kill)
	for n := range 3 {
		harness.Eventually(t, "some are delivered", func() bool { return len(u.SuccessfulBodies()) > 2+7*n })
		p.Signal(syscall.SIGTERM)
		if status := p.Wait(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		if n == 0 && len(u.SuccessfulBodies()) == len(bodies) {
			t.Error("all requests were delivered before the shutdown: this test cannot detect lost requests")
		}
		p.Start()
	}
	p.AwaitEmptyQueue()
	if got, duplicates := u.UniqueBodies(); !slices.Equal(got, bodies) || duplicates > 0 {
		t.Errorf("delivered %q, and %d duplicates", got, duplicates)
	}
}

// TestQueueOfRemovedServiceIsKept checks that the queue of a service removed from the configuration is kept
// and delivered when the service is restored.
func TestQueueOfRemovedServiceIsKept(t *testing.T) {
	t.Parallel()
	u := harness.StartRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	harness.ForceState(t, p, "open")
	p.MustQueue("a", "b")
	other := fmt.Sprintf("routes: {other: {prefix: /other, upstream: %s}}\n", u.URL())
	p.ReplaceConfig(other)
	harness.Eventually(t, "the service is removed", func() bool { return p.Health().Services["svc"].State == "" })
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.Start()
	if s, all := p.Queue(); s.Waiting != 2 || len(all) != 2 {
		t.Errorf("queue of the removed service: %+v, %+v", s, all)
	}
	p.ReplaceConfig(harness.QueueConfig(u.Upstream, ""))
	harness.Eventually(t, "the service is restored", func() bool { return p.Health().Services["svc"].State != "" })
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered("a", "b")
}

// TestUnorderedQueueIsNotBlockedByFailure checks that a failing request blocks no other in an unordered
// queue, and that new requests bypass the queue while the upstream is healthy.
func TestUnorderedQueueIsNotBlockedByFailure(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 5, recovery_timeout: 0.1", "ordered: false, max_attempts: 1000")})
	p.MustQueue("poison", "a", "b", "c")
	u.SetRules(harness.Rule{In: "poison", Status: 500})
	u.Start()
	t.Cleanup(u.Kill)
	harness.Eventually(t, "the other requests are delivered", func() bool { return len(u.SuccessfulBodies()) == 3 })
	if r := p.Post("direct"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
		t.Errorf("request with a failing one queued: %+v", r)
	}
	if s, all := p.Queue(); s.Waiting != 1 || all[0].Path != "/svc/poison" {
		t.Errorf("%+v, %+v", s, all)
	}
	u.SetRules()
	p.AwaitEmptyQueue()
	if got, duplicates := u.UniqueBodies(); len(got) != 5 || duplicates > 0 {
		t.Errorf("delivered %q, and %d duplicates", got, duplicates)
	}
}

// TestOrderedQueueWaitsForFirst checks that an ordered queue delivers its first request first, however often attempts fail. One
// other request may overtake it, if the upstream recovers between an attempt for the first one and the trial after it.
func TestOrderedQueueWaitsForFirst(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("first", "a", "b")
	u.SetRules(harness.Rule{Status: 500})
	u.Start()
	t.Cleanup(u.Kill)
	harness.Eventually(t, "several attempts have failed", func() bool { return len(u.Records()) > 8 })
	p.MustQueue("c")
	u.SetRules()
	harness.Eventually(t, "all are delivered", func() bool { return len(u.SuccessfulBodies()) == 4 })
	got, want := u.SuccessfulBodies(), []string{"first", "a", "b", "c"}
	if i := slices.Index(want, got[0]); i > 0 { // the trial has overtaken it
		want = slices.Insert(slices.Delete(want, i, i+1), 0, got[0])
	}
	if !slices.Equal(got, want) {
		t.Fatalf("delivered %q, want %q", got, want)
	}
	all := u.Records()
	first := all[len(all)-4+slices.Index(got, "first")].Header
	if attempt, err := strconv.Atoi(first.Get("X-Delivery-Attempt")); err != nil || attempt < 2 {
		t.Errorf("the delivery does not count attempts: %v", first)
	}
}

// TestPoisonRequestDoesNotBlockQueue checks that requests that fail while all others succeed are set aside: they neither
// open the breaker nor block other requests, and stay queued.
func TestPoisonRequestDoesNotBlockQueue(t *testing.T) {
	t.Parallel()
	for name, breaker := range map[string]string{
		"one probe": "fail_max: 1, recovery_timeout: 0.5", "three probes": "fail_max: 1, recovery_timeout: 0.5, half_open_requests: 3",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.NewRecorder(t)
			p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, breaker, "max_attempts: 1000000")})
			p.MustQueue("good-0", "poison-1", "poison-2", "good-1", "good-2", "poison-3", "good-3")
			u.SetRules(harness.Rule{In: "poison", Status: 500})
			u.Start()
			t.Cleanup(u.Kill)
			harness.Eventually(t, "the good requests are delivered", func() bool { return len(u.SuccessfulBodies()) == 4 })
			p.Signal(syscall.SIGKILL)
			p.Wait()
			p.Start()
			harness.Eventually(t, "the poison requests are set aside", func() bool {
				r := p.Post("direct")
				return r.Status == http.StatusOK && r.Header.Get("X-Fallback") == ""
			})
			opened := p.Metric(`cbproxy_state_changes_total{service="svc",to="open"}`)
			for range 50 {
				if r := p.Get("/svc/read"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
					t.Fatalf("a GET: %+v", r)
				}
				if r := p.Post("direct"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
					t.Fatalf("a POST: %+v", r)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if n := p.Metric(`cbproxy_state_changes_total{service="svc",to="open"}`); n != opened {
				t.Errorf("the breaker opened %v more times", n-opened)
			}
			var good []string
			for _, body := range u.SuccessfulBodies() {
				if strings.HasPrefix(body, "good") {
					good = append(good, body)
				}
			}
			good = slices.Compact(good) // the proxy may be killed before it records a delivery
			if want := []string{"good-0", "good-1", "good-2", "good-3"}; !slices.Equal(good, want) {
				t.Errorf("delivered %q, want %q", good, want)
			}
			s, all := p.Queue()
			if s.Waiting != 3 || s.Dead != 0 || !all[0].Aside {
				t.Errorf("%+v, %+v", s, all)
			}
			u.SetRules()
			p.AwaitEmptyQueue()
		})
	}
}
