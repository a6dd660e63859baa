package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// statusUpstream is an upstream that responds with the status that is set.
func statusUpstream(t testing.TB) (url string, status *atomic.Int32) {
	status = new(atomic.Int32)
	status.Store(200)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(s.Close)
	return s.URL, status
}

func TestShadowModeBlocksNothing(t *testing.T) {
	url, status := statusUpstream(t)
	status.Store(503)
	server, address, recorded := start(t, routeConfig(url, "breaker: {mode: shadow, fail_max: 2, recovery_timeout: 60s}"))
	b := server.Breaker("svc")
	for n := range 5 {
		res, _ := get(t, "http://"+address+"/svc")
		o := recorded.next(t)
		want := "closed"
		if n >= 2 {
			want = "open"
		}
		if res.StatusCode != 503 || o.Attempts != 1 || res.Header.Get("X-Circuit-Breaker-State") != want || res.Header.Get("X-Fallback") != "" {
			t.Errorf("request %d: status %d, %v, %+v", n, res.StatusCode, res.Header, o)
		}
	}
	if n := b.Status().ShadowRejections.Open; n != 3 || b.State() != events.Open {
		t.Errorf("%d shadow rejections, want 3; breaker %v", n, b.State())
	}
	status.Store(200)
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || recorded.next(t).Result != events.ResultSuccess {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestModeChangeKeepsTheState(t *testing.T) {
	url, status := statusUpstream(t)
	status.Store(503)
	mode := func(m string) string {
		return routeConfig(url, "breaker: {mode: "+m+", fail_max: 2, recovery_timeout: 60s}")
	}
	server, address, recorded := start(t, mode("shadow"))
	b := server.Breaker("svc")
	for range 3 {
		get(t, "http://"+address+"/svc")
		recorded.next(t)
	}
	until := b.Status().RetryAt
	for _, c := range []struct {
		mode     string
		attempts int // of the next request
	}{{"enforce", 0}, {"off", 1}, {"shadow", 1}, {"enforce", 0}} {
		if err := server.Apply(parse(t, mode(c.mode))); err != nil {
			t.Fatal(err)
		}
		get(t, "http://"+address+"/svc")
		if o := recorded.next(t); o.Attempts != c.attempts {
			t.Errorf("%s: %+v", c.mode, o)
		}
		if s := b.Status(); s.State != events.Open || !s.RetryAt.Equal(until) {
			t.Errorf("%s: %v until %v, was open until %v", c.mode, s.State, s.RetryAt, until)
		}
	}
}

// A breaker in mode off counts no failures and rejects no requests.
func TestOffModeCountsAndBlocksNothing(t *testing.T) {
	url, status := statusUpstream(t)
	status.Store(503)
	server, address, recorded := start(t, routeConfig(url, "breaker: {mode: off, fail_max: 1}"))
	for range 5 {
		if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 503 || res.Header.Get("X-Circuit-Breaker-State") != "closed" {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		if o := recorded.next(t); o.Result != events.ResultFailure || o.Attempts != 1 {
			t.Errorf("%+v", o)
		}
	}
	if s := server.Breaker("svc").Status(); s.State != events.Closed || s.ConsecutiveFailures != 0 {
		t.Errorf("%+v", s)
	}
}

func TestFailureRatioOpensTheBreaker(t *testing.T) {
	url, status := statusUpstream(t)
	server, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 0, failure_ratio: 0.5, min_requests: 10, window: 60s}"))
	for n := range 10 {
		if state := server.Breaker("svc").State(); state != events.Closed {
			t.Fatalf("%v after %d requests", state, n)
		}
		status.Store(int32(200 + n%2*300))
		get(t, "http://"+address+"/svc")
		recorded.next(t)
	}
	if state := server.Breaker("svc").State(); state != events.Open {
		t.Errorf("%v after half of 10 requests failed", state)
	}
}

func TestSlowCallRatioOpensTheBreaker(t *testing.T) {
	release := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/slow":
			<-release
		case "/slow-body":
			w.Header().Set("Content-Length", "200000")
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}
	}))
	defer upstream.Close()
	server, address, recorded := start(t, routeConfig(upstream.URL, "breaker: {slow_call_ratio: 0.5, slow_call_duration: 0.3, min_requests: 4, window: 60s}"))
	b := server.Breaker("svc")

	// A slow upload does not make the call slow.
	body, send := io.Pipe()
	go func() {
		_, _ = io.WriteString(send, "x")
		time.Sleep(400 * time.Millisecond)
		_ = send.Close()
	}()
	res, err := http.Post("http://"+address+"/svc/fast", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	recorded.next(t)
	get(t, "http://"+address+"/svc/fast")
	recorded.next(t)
	go func() {
		for range 2 {
			time.Sleep(400 * time.Millisecond) // longer than slow_call_duration
			release <- struct{}{}
		}
	}()
	for _, path := range []string{"slow", "slow-body"} {
		if state := b.State(); state != events.Closed {
			t.Fatalf("%v before %s", state, path)
		}
		if res, _ := get(t, "http://"+address+"/svc/"+path); res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		if o := recorded.next(t); o.Result != events.ResultSuccess {
			t.Errorf("%s: %+v", path, o)
		}
	}
	if state := b.State(); state != events.Open {
		t.Errorf("%v after half of the calls were slow", state)
	}
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if len(recorded.failures) != 2 || recorded.failures[0] != events.ErrorSlow {
		t.Errorf("failures %v, want the two slow calls that opened the breaker", recorded.failures)
	}
}

// recovery_backoff makes each consecutive opening last longer, up to a maximum.
func TestRecoveryTimeoutBacksOff(t *testing.T) {
	server, address, recorded := start(t, routeConfig(closedPort(t),
		"breaker: {fail_max: 1, recovery_timeout: 500ms, recovery_backoff: {multiplier: 2, max: 700ms, jitter: 0}}"))
	b := server.Breaker("svc")
	for _, want := range []time.Duration{500, 700} {
		get(t, "http://"+address+"/svc")
		for recorded.next(t).Attempts == 0 {
			time.Sleep(5 * time.Millisecond)
			get(t, "http://"+address+"/svc")
		}
		if s := b.Status(); s.RetryAt.Sub(s.Since) != want*time.Millisecond {
			t.Errorf("open for %v, want %v", s.RetryAt.Sub(s.Since), want*time.Millisecond)
		}
	}
}
