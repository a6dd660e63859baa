package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReloadsDuringDeliveryLoseNothing(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	config := func(n int) string {
		c := queueRoute(u.upstreamProcess, fmt.Sprintf("capacity: %d", 1000+n))
		switch n % 3 {
		case 1: // remove the service briefly
			return strings.Replace(c, "{svc: {prefix: /svc", "{other: {prefix: /other", 1)
		case 2: // disable the queue briefly
			return strings.Replace(c, "[queue, static]", "[static]", 1)
		}
		return c
	}
	p := startProxy(t, options{config: config(0)})
	bodies := numbered("m", 60)
	p.mustQueue(bodies...)
	u.answer(rule{Status: 200, Delay: 10 * time.Millisecond})
	u.start()
	t.Cleanup(u.kill)
	for n := 1; len(u.bodies()) < len(bodies) && n < 100; n++ {
		p.replace(config(n))
		reload(p)
	}
	p.replace(config(0))
	reload(p)
	p.drained()
	if got, more := u.unique(); !slices.Equal(got, bodies) || more > 0 {
		t.Errorf("delivered %q, and %d again", got, more)
	}
}

func TestShutdownDuringDeliveryLosesNothing(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	bodies := numbered("m", 30)
	p.mustQueue(bodies...)
	u.answer(rule{Status: 200, Delay: 30 * time.Millisecond})
	u.start()
	t.Cleanup(u.kill)
	for n := range 3 {
		eventually(t, "some are delivered", func() bool { return len(u.bodies()) > 2+7*n })
		p.signal(syscall.SIGTERM)
		if status := p.wait(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		if n == 0 && len(u.bodies()) == len(bodies) {
			t.Error("all requests were delivered before the shutdown: the test is ineffective")
		}
		p.start()
	}
	p.drained()
	if got, more := u.unique(); !slices.Equal(got, bodies) || more > 0 {
		t.Errorf("delivered %q, and %d again", got, more)
	}
}

// TestQueueOfRemovedServiceIsKept checks that the queue of a service removed from the configuration is kept
// and delivered when the service is restored.
func TestQueueOfRemovedServiceIsKept(t *testing.T) {
	t.Parallel()
	u := startRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	forceTo(t, p, "open")
	p.mustQueue("a", "b")
	other := fmt.Sprintf("routes: {other: {prefix: /other, upstream: %s}}\n", u.url())
	p.replace(other)
	eventually(t, "it is gone", func() bool { return p.health().Services["svc"].State == "" })
	p.signal(syscall.SIGTERM)
	p.wait()
	p.start()
	if s, all := p.backlog(); s.Waiting != 2 || len(all) != 2 {
		t.Errorf("%+v, %+v", s, all)
	}
	p.replace(queueRoute(u.upstreamProcess, ""))
	eventually(t, "it is back", func() bool { return p.health().Services["svc"].State != "" })
	forceTo(t, p, "half-open")
	u.awaitTaken("a", "b")
}

// TestUnorderedQueueIsNotBlockedByFailure checks that a failing request blocks no other in an unordered
// queue, and that new requests bypass the queue while the upstream is healthy.
func TestUnorderedQueueIsNotBlockedByFailure(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, "fail_max: 5, recovery_timeout: 0.1", "ordered: false, max_attempts: 1000")})
	p.mustQueue("poison", "a", "b", "c")
	u.answer(rule{In: "poison", Status: 500})
	u.start()
	t.Cleanup(u.kill)
	eventually(t, "the others are delivered", func() bool { return len(u.bodies()) == 3 })
	if r := p.post("straight"); r.status != http.StatusOK || r.header.Get("X-Fallback") != "" {
		t.Errorf("while one waits: %+v", r)
	}
	if s, all := p.backlog(); s.Waiting != 1 || all[0].Path != "/svc/poison" {
		t.Errorf("%+v, %+v", s, all)
	}
	u.answer()
	p.drained()
	if got, more := u.unique(); len(got) != 5 || more > 0 {
		t.Errorf("delivered %q, and %d again", got, more)
	}
}

// TestOrderedQueueWaitsForFirst checks that an ordered queue keeps retrying its first request while all
// attempts fail.
func TestOrderedQueueWaitsForFirst(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	p.mustQueue("first", "a", "b")
	u.answer(rule{Status: 500})
	u.start()
	t.Cleanup(u.kill)
	eventually(t, "several were tried", func() bool { return len(u.records()) > 8 })
	p.mustQueue("c")
	u.answer()
	u.awaitTaken("first", "a", "b", "c")
	all := u.records()
	if first := all[len(all)-4]; first.Header.Get("X-Delivery-Attempt") < "2" {
		t.Errorf("attempts are not counted: %v", first.Header)
	}
}

// TestPoisonRequestDoesNotBlockQueue checks that a request that fails while all others succeed does not
// open the breaker, and is retried only a few times.
func TestPoisonRequestDoesNotBlockQueue(t *testing.T) {
	t.Parallel()
	for name, breaker := range map[string]string{
		"one probe": "fail_max: 1, recovery_timeout: 0.5", "three probes": "fail_max: 1, recovery_timeout: 0.5, half_open_requests: 3",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newRecorder(t)
			p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, breaker, "max_attempts: 1000000")})
			p.mustQueue("good-0", "poison-1", "poison-2", "good-1", "good-2", "poison-3", "good-3")
			u.answer(rule{In: "poison", Status: 500})
			u.start()
			t.Cleanup(u.kill)
			eventually(t, "the good ones are delivered", func() bool { return len(u.bodies()) == 4 })
			p.signal(syscall.SIGKILL)
			p.wait()
			p.start()
			eventually(t, "they are set aside", func() bool {
				r := p.post("straight")
				return r.status == http.StatusOK && r.header.Get("X-Fallback") == ""
			})
			opened := p.metric(`cbproxy_state_changes_total{service="svc",to="open"}`)
			for range 50 {
				if r := p.get("/svc/read"); r.status != http.StatusOK || r.header.Get("X-Fallback") != "" {
					t.Fatalf("a GET: %+v", r)
				}
				if r := p.post("direct"); r.status != http.StatusOK || r.header.Get("X-Fallback") != "" {
					t.Fatalf("a POST: %+v", r)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if n := p.metric(`cbproxy_state_changes_total{service="svc",to="open"}`); n != opened {
				t.Errorf("the breaker opened %v more times", n-opened)
			}
			var good []string
			for _, body := range u.bodies() {
				if strings.HasPrefix(body, "good") {
					good = append(good, body)
				}
			}
			good = slices.Compact(good) // the proxy may be killed before it records a delivery
			if want := []string{"good-0", "good-1", "good-2", "good-3"}; !slices.Equal(good, want) {
				t.Errorf("delivered %q, want %q", good, want)
			}
			s, all := p.backlog()
			if s.Waiting != 3 || s.Dead != 0 || !all[0].Aside {
				t.Errorf("%+v, %+v", s, all)
			}
			u.answer()
			p.drained()
		})
	}
}
