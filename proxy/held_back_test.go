package proxy_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// With several endpoints, the breaker hears of the outcome of a request's last attempt.
func TestTheBreakerHearsOfTheLastAttempt(t *testing.T) {
	inOneMode(t)
	for name, c := range map[string]struct {
		statuses  []int // of the attempts
		endpoints int
		mode      string
		failures  int // that the breaker has counted
	}{
		"the last one succeeds":       {[]int{503, 503, 200}, 3, "enforce", 0},
		"all fail":                    {[]int{503, 503, 503}, 3, "enforce", 1},
		"the last one is not retried": {[]int{503, 404}, 2, "enforce", 0},
		"shadow":                      {[]int{503, 503, 200}, 2, "shadow", 0},
		"shadow, all fail":            {[]int{503, 503, 503}, 2, "shadow", 1},
		"off":                         {[]int{503, 503, 503}, 2, "off", 0},
		"one endpoint":                {[]int{503, 503, 503}, 1, "enforce", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams := numberedUpstreams(t, c.endpoints, func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.statuses[n-1]) })
			server, address, recorded := start(t, routeConfig(upstreams, "retry: {attempts: 2, backoff: 1ms, budget: 1}", "breaker: {fail_max: 10, mode: "+c.mode+"}"))
			res, _ := get(t, "http://"+address+"/svc")
			o := recorded.next(t)
			if res.StatusCode != c.statuses[len(c.statuses)-1] || o.Attempts != len(c.statuses) {
				t.Errorf("status %d, %+v", res.StatusCode, o)
			}
			failed := 0
			for _, status := range c.statuses {
				if status == 503 {
					failed++
				}
			}
			if failures, _ := recorded.seen(); len(failures) != failed {
				t.Errorf("failures %v", failures)
			}
			if n := server.Breaker("svc").Status().ConsecutiveFailures; n != c.failures {
				t.Errorf("the breaker has counted %d failures, want %d", n, c.failures)
			}
			_ = wantNoneInFlight(t, server)
		})
	}
}

// If the client leaves between two attempts, the breaker hears of the first one.
func TestAFailureIsReportedIfTheClientLeavesBeforeTheNextAttempt(t *testing.T) {
	inOneMode(t)
	answered := make(chan struct{})
	upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "15")
		w.WriteHeader(503)
		close(answered)
	})
	server, address, recorded := start(t, routeConfig(upstreams, "timeout: 60s", "retry: {attempts: 2, budget: 1}", "breaker: {fail_max: 10}"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-answered
		for limit := time.Now().Add(10 * time.Second); len(failuresOf(recorded)) == 0 && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/svc", nil)
	if res, err := http.DefaultClient.Do(r); err == nil {
		_ = res.Body.Close()
		t.Errorf("status %d", res.StatusCode)
	}
	o := recorded.next(t)
	if n := server.Breaker("svc").Status().ConsecutiveFailures; o.Attempts != 1 || n != 1 {
		t.Errorf("%+v, the breaker has counted %d failures", o, n)
	}
	wantQuiet(t, server, 1)
}

func failuresOf(r *recorder) []events.ErrorType {
	failures, _ := r.seen()
	return failures
}

// A breaker that opens between two attempts ends the request with the response of the first one.
func TestNoFurtherAttemptIfTheBreakerOpensMeanwhile(t *testing.T) {
	inOneMode(t)
	for name, forced := range map[string]events.State{"open": events.Open, "half-open": events.HalfOpen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(503)
			})
			server, address, recorded := start(t, routeConfig(upstreams, "retry: {attempts: 2, budget: 1}", "breaker: {fail_max: 10}"))
			go func() {
				recorded.waitFailures(1)
				server.Breaker("svc").Force(forced, 0, "test")
			}()
			res, _ := get(t, "http://"+address+"/svc")
			if o := recorded.next(t); res.StatusCode != 503 || o.Attempts != 1 || res.Header.Get("X-Circuit-Breaker-State") != "closed" {
				t.Errorf("status %d, %+v, %v", res.StatusCode, o, res.Header)
			}
			wantQuiet(t, server, 1)
		})
	}
}

// The attempts of a request that tests recovery have one permit of the half-open breaker, which is returned once.
func TestAttemptsShareTheProbePermit(t *testing.T) {
	inOneMode(t)
	for name, c := range map[string]struct {
		last int
		want events.State
	}{
		"the last one succeeds": {200, events.Closed},
		"all fail":              {503, events.Open},
		"not judged":            {418, events.HalfOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second, release := make(chan struct{}), make(chan struct{})
			upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, _ *http.Request) {
				switch n {
				case 1:
					w.WriteHeader(503)
				case 2:
					close(second)
					<-release
					w.WriteHeader(c.last)
				}
			})
			server, address, recorded := start(t, routeConfig(upstreams, "retry: {attempts: 1, backoff: 1ms, budget: 1}",
				"breaker: {fail_max: 1, half_open_requests: 1, ignore_statuses: [418]}"))
			b := server.Breaker("svc")
			b.Force(events.HalfOpen, 0, "test")
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := http.Get("http://" + address + "/svc"); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}()
			<-second
			if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 503 || b.State() != events.HalfOpen {
				t.Errorf("status %d while the permit is taken, breaker %v", res.StatusCode, b.State())
			}
			recorded.next(t)
			close(release)
			<-done
			if o := recorded.next(t); o.Attempts != 2 || o.State != events.HalfOpen || b.State() != c.want {
				t.Errorf("%+v, breaker %v", o, b.State())
			}
			if c.want == events.HalfOpen {
				if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || b.State() != events.Closed {
					t.Errorf("the permit was not returned: status %d, breaker %v", res.StatusCode, b.State())
				}
			}
			_ = wantNoneInFlight(t, server)
		})
	}
}
