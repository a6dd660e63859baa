package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"cbproxy/internal/events"
	"cbproxy/proxy"
)

// checkedUpstream is an upstream that counts health checks, on /healthz, and other requests separately.
type checkedUpstream struct {
	*httptest.Server
	status        atomic.Int32 // of the response to a check; 0: there is none
	checks, calls atomic.Int32
	connections   atomic.Int32
}

func newCheckedUpstream(t testing.TB) *checkedUpstream {
	return wrapCheckedUpstream(t, func(h http.HandlerFunc) http.HandlerFunc { return h })
}

// wrapCheckedUpstream is newCheckedUpstream with another handler in front.
func wrapCheckedUpstream(t testing.TB, wrap func(http.HandlerFunc) http.HandlerFunc) *checkedUpstream {
	u := new(checkedUpstream)
	u.status.Store(200)
	u.Server = httptest.NewUnstartedServer(wrap(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			u.calls.Add(1)
			return
		}
		u.checks.Add(1)
		if status := int(u.status.Load()); status != 0 {
			w.WriteHeader(status)
			return
		}
		<-r.Context().Done()
	}))
	u.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			u.connections.Add(1)
		}
	}
	u.Start()
	t.Cleanup(u.Close)
	return u
}

// checkedRoute is the configuration of a route to upstreams that are checked each 20ms.
func checkedRoute(eject string, upstreams ...*checkedUpstream) string {
	var urls []string
	for _, u := range upstreams {
		urls = append(urls, u.URL)
	}
	return routeConfig("["+strings.Join(urls, ", ")+"]", "balance: {policy: round_robin, eject: {"+eject+"}}",
		"breaker: {probe: {path: /healthz, always: true, interval: 20ms, timeout: 30s}}")
}

// waitFor waits until done returns true.
func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// endpoint returns the status of the n-th endpoint of svc.
func endpoint(s *proxy.Server, n int) events.EndpointStatus { return s.Endpoints("svc")[n] }

// An endpoint that says that it is not healthy gets no requests, although it would answer them, until a check after its ejection's end
// succeeds. No request is a trial.
func TestHealthCheckEjectsEndpoint(t *testing.T) {
	inOneMode(t)
	a, b, c := newCheckedUpstream(t), newCheckedUpstream(t), newCheckedUpstream(t)
	server, address, recorded := start(t, checkedRoute("fail_max: 3, time: 10ms", a, b, c))
	waitFor(t, "all are checked", func() bool { return a.checks.Load() > 0 && b.checks.Load() > 0 && c.checks.Load() > 0 })
	b.status.Store(503)
	waitFor(t, "the endpoint is ejected", func() bool { return endpoint(server, 1).State == events.EndpointEjected })
	if f := endpoint(server, 1).LastFailure; f.Type != events.ErrorStatus || f.Detail != "health check: status 503" {
		t.Errorf("the last failure is %+v", f)
	}
	calls, failing := b.calls.Load(), b.checks.Load()
	for n := 0; n < 30 || b.checks.Load() < failing+5; n++ { // longer than the ejection
		if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
			t.Fatalf("status %d", res.StatusCode)
		}
	}
	if n := b.calls.Load() - calls; n != 0 {
		t.Errorf("%d requests reached the ejected endpoint", n)
	}
	b.status.Store(200)
	waitFor(t, "the endpoint is in again", func() bool { return endpoint(server, 1).State == events.EndpointIn })
	waitFor(t, "a request reaches it", func() bool { get(t, "http://"+address+"/svc"); return b.calls.Load() > calls })
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	failed := 0
	for _, ok := range recorded.checks {
		if !ok {
			failed++
		}
	}
	if len(recorded.failures) != 0 || failed < 3 || failed == len(recorded.checks) {
		t.Errorf("failures %v, %d of %d checks failed", recorded.failures, failed, len(recorded.checks))
	}
}

// Checks of the only endpoint are counted, and change nothing.
func TestHealthChecksOfSingleEndpoint(t *testing.T) {
	inOneMode(t)
	u := newCheckedUpstream(t)
	u.status.Store(503)
	server, address, recorded := start(t, checkedRoute("fail_max: 1, time: 1h", u))
	waitFor(t, "checks fail", func() bool {
		recorded.mu.Lock()
		defer recorded.mu.Unlock()
		return len(recorded.checks) > 2 && !recorded.checks[0]
	})
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || u.calls.Load() != 1 {
		t.Errorf("status %d, %d requests", res.StatusCode, u.calls.Load())
	}
	if s := server.Breaker("svc").State(); s != events.Closed || endpoint(server, 0).State != events.EndpointIn {
		t.Errorf("breaker %v, endpoint %+v", s, endpoint(server, 0))
	}
}

// An endpoint that is in is checked over the connections of clients' requests; an ejected one over new connections.
func TestConnectionsOfHealthChecks(t *testing.T) {
	inOneMode(t)
	a, b := newCheckedUpstream(t), newCheckedUpstream(t)
	server, address, _ := start(t, checkedRoute("fail_max: 1, time: 1h", a, b))
	for range 4 {
		get(t, "http://"+address+"/svc")
	}
	before := a.checks.Load()
	waitFor(t, "checks", func() bool { return a.checks.Load() > before+5 })
	if n := a.connections.Load(); n > 3 { // a check and a request at the same time need two; the fast path has connections of its own
		t.Errorf("%d connections for requests and checks one after another", n)
	}
	b.status.Store(503)
	waitFor(t, "the endpoint is ejected", func() bool { return endpoint(server, 1).State == events.EndpointEjected })
	checks, connections := b.checks.Load(), b.connections.Load()
	waitFor(t, "checks of the ejected endpoint", func() bool { return b.checks.Load() > checks+5 })
	if n := b.connections.Load() - connections; n < 5 {
		t.Errorf("5 checks of the ejected endpoint used %d new connections", n)
	}
}

// A check goes on while configurations are loaded that change nothing about it, and ends when one does.
func TestReloadAndHealthChecks(t *testing.T) {
	inOneMode(t)
	var ended atomic.Int32
	a := wrapCheckedUpstream(t, func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			h(w, r)
			ended.Add(1)
		}
	})
	a.status.Store(0)
	b := newCheckedUpstream(t)
	text := checkedRoute("fail_max: 3, time: 1h", a, b)
	server, address, _ := start(t, text)
	waitFor(t, "a check of the first endpoint", func() bool { return a.checks.Load() == 1 })
	for range 3 {
		if err := server.Apply(parse(t, strings.Replace(text, "prefix: /svc", "prefix: /other", 1))); err != nil {
			t.Fatal(err)
		}
	}
	before := b.checks.Load()
	waitFor(t, "further checks", func() bool { return b.checks.Load() > before+2 })
	if a.checks.Load() != 1 || ended.Load() != 0 {
		t.Errorf("%d checks of the first endpoint, %d cancelled; want the one that goes on", a.checks.Load(), ended.Load())
	}
	text = strings.Replace(text, "timeout: 30s", "timeout: 20s", 1)
	if err := server.Apply(parse(t, text)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the check is cancelled and begun again", func() bool { return ended.Load() == 1 && a.checks.Load() == 2 })
	if err := server.Apply(parse(t, checkedRoute("fail_max: 3, time: 1h", b))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the check of a removed endpoint is cancelled", func() bool { return ended.Load() == 2 })
	if err := server.Apply(parse(t, strings.Replace(text, "always: true", "always: false", 1))); err != nil {
		t.Fatal(err)
	}
	before = b.checks.Load() // Apply has waited for the last check
	for range 30 {
		get(t, "http://"+address+"/svc")
	}
	if n := b.checks.Load(); n != before {
		t.Errorf("%d checks after their end", n-before)
	}
}

// Nothing is left of checks that hang when the proxy is closed.
func TestCloseEndsHealthChecks(t *testing.T) {
	inOneMode(t)
	a, b := newCheckedUpstream(t), newCheckedUpstream(t)
	a.status.Store(0)
	before := runtime.NumGoroutine()
	for range 5 {
		p := startProxy(t, checkedRoute("fail_max: 3, time: 1h", a, b), proxyOptions{})
		checks := a.checks.Load()
		waitFor(t, "a check hangs", func() bool { return a.checks.Load() > checks })
		_ = p.http.Close()
		<-p.served
		p.Close()
	}
	a.CloseClientConnections()
	b.CloseClientConnections()
	waitFor(t, "no goroutines are left", func() bool { return runtime.NumGoroutine() <= before+4 }) // the pause detector and the like
}

// With health checks, recovery is tested at an endpoint that they have found healthy, and the endpoint that is not stays ejected.
func TestRecoveryProbeUsesHealthyEndpoint(t *testing.T) {
	inOneMode(t)
	a, b := newCheckedUpstream(t), newCheckedUpstream(t)
	a.status.Store(503)
	server, _, recorded := start(t, checkedRoute("fail_max: 1, time: 1ms", a, b))
	waitFor(t, "the endpoint is ejected", func() bool { return endpoint(server, 0).State == events.EndpointEjected })
	for range 5 {
		server.Breaker("svc").Force(events.HalfOpen, 0, "test")
		waitForState(t, server.Breaker("svc"), events.Closed)
	}
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if len(recorded.failures) != 0 || len(recorded.probes) < 5 || endpoint(server, 0).State != events.EndpointEjected {
		t.Errorf("failures %v, %d probes", recorded.failures, len(recorded.probes))
	}
}

// Without health checks, a probe for recovery also tries an endpoint whose ejection has ended, as no request can. If it fails, the next
// probe tries another one.
func TestRecoveryProbeTriesEjectedEndpoint(t *testing.T) {
	inOneMode(t)
	var broken atomic.Bool
	a := wrapCheckedUpstream(t, func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if broken.Load() {
				w.WriteHeader(503)
				return
			}
			h(w, r)
		}
	})
	b := wrapCheckedUpstream(t, func(http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
	})
	text := strings.Replace(checkedRoute("fail_max: 1, time: 1ms", a, b), "always: true,", "", 1)
	text = strings.Replace(text, "breaker: {", "breaker: {fail_max: 5, recovery_timeout: 10ms, ", 1)
	server, address, _ := start(t, text)
	waitFor(t, "the endpoint is ejected", func() bool {
		get(t, "http://"+address+"/svc")
		return endpoint(server, 1).State == events.EndpointEjected
	})
	broken.Store(true)
	waitFor(t, "the breaker opens", func() bool { get(t, "http://"+address+"/svc"); return server.Breaker("svc").State() == events.Open })
	broken.Store(false)
	waitForState(t, server.Breaker("svc"), events.Closed)
}

// With probe.grpc, an endpoint that serves requests and is NOT_SERVING by its health service is ejected.
func TestHealthChecksByGRPC(t *testing.T) {
	inOneMode(t)
	var urls []string
	var services []*health.Server
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, h := grpc.NewServer(), health.NewServer()
		grpc_health_v1.RegisterHealthServer(s, h)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		urls, services = append(urls, "h2c://"+l.Addr().String()), append(services, h)
	}
	server, _, _ := start(t, routeConfig("["+strings.Join(urls, ", ")+"]", "balance: {eject: {fail_max: 2, time: 1ms}}",
		"breaker: {probe: {grpc: true, always: true, interval: 20ms, timeout: 30s}}"))
	services[2].SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	waitFor(t, "the endpoint is ejected", func() bool { return endpoint(server, 2).State == events.EndpointEjected })
	if f := endpoint(server, 2).LastFailure; f.Type != events.ErrorGRPC || f.Detail != "health check: NOT_SERVING" {
		t.Errorf("the last failure is %+v", f)
	}
	services[2].SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	waitFor(t, "the endpoint is in again", func() bool { return endpoint(server, 2).State == events.EndpointIn })
	for n := range 2 {
		if e := endpoint(server, n); e.Ejections != 0 {
			t.Errorf("%+v", e)
		}
	}
}

// No request fails while each key of the probe changes under load.
func TestReloadOfProbeUnderLoad(t *testing.T) {
	inOneMode(t)
	a, b := newCheckedUpstream(t), newCheckedUpstream(t)
	text := checkedRoute("fail_max: 3, time: 10ms", a, b)
	server, address, _ := start(t, text)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				res, err := http.Get("http://" + address + "/svc")
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	for i := range 30 {
		for _, probe := range []string{
			"path: '/healthz?n=%d', always: true, interval: 1ms, timeout: 1s", "path: /healthz, always: true, interval: %dus, timeout: 1s",
			"path: /healthz, always: true, interval: 1ms, timeout: %dms", "path: /healthz, interval: 1ms, timeout: %ds", "interval: %ds",
		} {
			changed := strings.Replace(text, "path: /healthz, always: true, interval: 20ms, timeout: 30s", fmt.Sprintf(probe, i+1), 1)
			if err := server.Apply(parse(t, changed)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	clients.Wait()
	if s := server.Breaker("svc").State(); s != events.Closed {
		t.Errorf("breaker %v", s)
	}
}
