package proxy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cbproxy/internal/events"
)

// The key of a gRPC call is in its metadata, which are header fields of HTTP/2.
func TestKeysOfGRPCCalls(t *testing.T) {
	inOneMode(t)
	upstream := h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", map[bool]string{false: "0", true: "14"}[r.Header.Get("X-Tenant") == "bad"])
	})
	server, address, recorded := start(t, routeConfig(upstream, "breaker: {fail_max: 2, by: {header: x-tenant, max: 10}}"))
	for range 2 {
		callGRPC(t, address, "X-Tenant", "bad")
		recorded.next(t)
	}
	res := callGRPC(t, address, "X-Tenant", "bad")
	if o := recorded.next(t); res.Header.Get("Grpc-Status") != "14" || o.Result != events.ResultRejected {
		t.Errorf("%v, %+v", res.Header, o)
	}
	callGRPC(t, address, "X-Tenant", "good")
	if o := recorded.next(t); o.Result != events.ResultSuccess {
		t.Errorf("%+v", o)
	}
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("the service's breaker is %v", state)
	}
}

// With several endpoints, one call of the breaker serves all attempts of a request.
func TestKeysWithSeveralEndpoints(t *testing.T) {
	inOneMode(t)
	c, upstream := newTenants(t)
	server, address, recorded := start(t, routeConfig("["+upstream+", "+upstream+"/other]",
		"retry: {attempts: 1, backoff: 1ms, budget: 1, statuses: [500]}", "balance: {eject: {fail_max: 0}}", "breaker: {fail_max: 2, by: {header: X-Tenant, max: 10}}"))
	c.address, c.recorded = address, recorded
	c.want(500, "closed", "bad")
	c.want(500, "closed", "bad")
	c.want(503, "open", "bad")
	c.want(200, "closed", "good")
	keys, _ := server.Keys("svc")
	if s := keys.Status("bad"); s.ConsecutiveFailures != 2 || c.received.Load() != 5 {
		t.Errorf("%d failures, %d requests received", s.ConsecutiveFailures, c.received.Load())
	}
}

// A probe of a key whose client sends its body slowly must not keep other requests of the key from probing.
func TestSlowUploadAsTheProbeOfAKey(t *testing.T) {
	inOneMode(t)
	admitted := make(chan struct{}, 1) // the slow request has arrived at the upstream
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			admitted <- struct{}{}
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(upstream.Close)
	server, address, recorded := start(t, routeConfig(upstream.URL, "breaker: {fail_max: 2, by: {header: X-Tenant, max: 10}}"))
	keys, _ := server.Keys("svc")
	if err := keys.Force("a", events.HalfOpen, 0, ""); err != nil {
		t.Fatal(err)
	}
	body, feed := io.Pipe()
	t.Cleanup(func() { _ = feed.Close() })
	slow := make(chan int, 1)
	go func() {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/svc", body)
		r.Header.Set("X-Tenant", "a")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			slow <- 0
			return
		}
		_ = res.Body.Close()
		slow <- res.StatusCode
	}()
	_, _ = feed.Write([]byte("a"))
	<-admitted
	c := &tenants{t: t, address: address, recorded: recorded}
	for status := 503; status == 503; { // the slow one loses its permit once it has waited for its client
		status, _ = c.send("a")
		if status != 503 && status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	_ = feed.Close()
	if status := <-slow; status != 200 {
		t.Errorf("status %d of the slow request", status)
	}
	recorded.next(t)
	if s := keys.Status("a"); s.State != events.Closed {
		t.Errorf("%+v", s)
	}
}

// A request whose body is read before it becomes a probe asks both breakers again.
func TestPrefetchedProbeReturnsPermits(t *testing.T) {
	inOneMode(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(upstream.Close)
	server, address, recorded := start(t, routeConfig(upstream.URL, "breaker: {half_open_requests: 1, by: {header: X-Tenant, max: 10}}"))
	keys, _ := server.Keys("svc")
	b := server.Breaker("svc")
	for _, half := range []func(){
		func() { b.Force(events.HalfOpen, 0, "") },
		func() { _ = keys.Force("a", events.HalfOpen, 0, "") },
		func() { b.Force(events.HalfOpen, 0, ""); _ = keys.Force("a", events.HalfOpen, 0, "") },
	} {
		half()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/svc", strings.NewReader("body"))
		r.Header.Set("X-Tenant", "a")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		recorded.next(t)
		if state := res.Header.Get("X-Circuit-Breaker-State"); state != "half-open" || res.StatusCode != 200 {
			t.Errorf("status %d, state %s", res.StatusCode, state)
		}
		if s := keys.Status("a"); b.State() != events.Closed || s.State != events.Closed {
			t.Errorf("service %v, key %v", b.State(), s.State)
		}
	}
}

// The failure that opens the breaker of a key is answered with its Retry-After.
func TestRetryAfterOfTheFailureThatOpensAKey(t *testing.T) {
	inOneMode(t)
	_, address, recorded := start(t, "fallbacks: {svc: {try: [static], static: {body: {}}}}\n"+
		routeConfig("http://127.0.0.1:1", "breaker: {fail_max: 1, recovery_timeout: 100s, by: {header: X-Tenant, max: 10}}"))
	c := &tenants{t: t, address: address, recorded: recorded}
	for _, reason := range []string{"connect", "open"} {
		status, h := c.request(http.Header{"X-Tenant": {"a"}})
		if status != 200 || h.Get("X-Fallback-Reason") != reason || h.Get("Retry-After") != "100" {
			t.Errorf("%s: status %d, %v", reason, status, h)
		}
	}
}
