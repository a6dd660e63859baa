package proxy_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/metrics"
	"cbproxy/proxy"
	"cbproxy/routes"
)

func TestReloadKeepsBreakersAndTheirCounts(t *testing.T) {
	server, address, recorded := start(t, routeConfig("http://127.0.0.1:1", "breaker: {fail_max: 3, recovery_timeout: 60}"))
	fail := func() {
		get(t, "http://"+address+"/svc")
		recorded.next(t)
	}
	apply := func(text string) {
		if err := server.Apply(parse(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	fail()
	fail()
	apply(routeConfig("http://127.0.0.1:1", "breaker: {fail_max: 4, recovery_timeout: 60}", "timeout: 5s"))
	b := server.Breaker("svc")
	if n := b.Status().ConsecutiveFailures; n != 2 {
		t.Fatalf("%d consecutive failures after a reload, want 2", n)
	}
	fail()
	if b.State() != events.Closed {
		t.Fatal("opened at the old fail_max")
	}
	fail()
	opened := b.Status()
	if opened.State != events.Open {
		t.Fatalf("state %v after 4 failures", opened.State)
	}
	apply(routeConfig("http://127.0.0.1:2", "breaker: {fail_max: 1, recovery_timeout: 60}"))
	if now := b.Status(); now.State != events.Open || !now.RetryAt.Equal(opened.RetryAt) {
		t.Errorf("a reload changed %+v to %+v", opened, now)
	}
	apply(routeConfig("http://127.0.0.1:2", "breaker: {recovery_timeout: 90}"))
	if now := b.Status(); !now.RetryAt.Equal(opened.Since.Add(90 * time.Second)) {
		t.Errorf("open until %v, want 90s after %v", now.RetryAt, opened.Since)
	}
	apply(routeConfig("http://127.0.0.1:2", "breaker: {recovery_timeout: 1ms}"))
	for b.State() == events.Open { // the new recovery timeout has already passed
		runtime.Gosched()
	}
}

func TestRequestsNeverFailBecauseOfReloads(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer upstream.Close()
	server, address, _ := start(t, routeConfig(upstream.URL))
	otherURL := strings.Replace(upstream.URL, "127.0.0.1", "localhost", 1) // the same upstream with another pool
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				res, err := http.Get("http://" + address + "/svc")
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 || string(body) != "ok" || err != nil {
					t.Errorf("status %d, %q, %v", res.StatusCode, body, err)
					return
				}
			}
		})
	}
	for i := range 300 {
		url := upstream.URL
		if i%2 == 0 {
			url = otherURL
		}
		if err := server.Apply(parse(t, routeConfig(url, fmt.Sprintf("timeout: %d", i+1)))); err != nil {
			t.Error(err)
		}
	}
	close(done)
	clients.Wait()
}

// Ten thousand reloads that add and remove services and change upstreams, with occasional requests, leave no more connections,
// goroutines and time series than a single one.
func TestReloadsLeakNothing(t *testing.T) {
	conns := make(chan int, 100000)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			conns <- 1
		case http.StateClosed:
			conns <- -1
		}
	}
	upstream.Start()
	defer upstream.Close()
	breakers := breaker.NewRegistry(breaker.RegistryHooks{})
	meter := metrics.New(metrics.Config{Strategies: []string{"static"}})
	meter.Collect(metrics.Sources{Breakers: func() map[string]events.ServiceStatus {
		views := map[string]events.ServiceStatus{}
		for name, b := range breakers.All() {
			views[name] = events.ServiceStatus{BreakerStatus: b.Status()}
		}
		return views
	}})
	server := proxy.New(proxy.Config{Bus: new(events.Bus), Breakers: breakers, Observers: meter, Logger: slog.New(slog.DiscardHandler)})
	request := func(path string) {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != 200 {
			t.Fatalf("%s: status %d", path, w.Code)
		}
	}
	series := func() int {
		w := httptest.NewRecorder()
		meter.Handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return strings.Count(w.Body.String(), "circuit_breaker")
	}
	other := strings.Replace(upstream.URL, "127.0.0.1", "localhost", 1)
	a := parse(t, routeConfig(upstream.URL))
	b := parse(t, routeConfig(other)+"  extra: {prefix: /extra, upstream: "+upstream.URL+"}\n")
	apply := func(i int) {
		c := a
		if i%2 == 1 {
			c = b
		}
		if err := server.Apply(c); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 || i%100 == 1 {
			request("/svc")
		}
		if i%100 == 1 {
			request("/extra")
			server.Breaker("extra").Force(events.Open, time.Hour, "") // starts a timer
		}
	}
	for i := range 10 {
		apply(i)
	}
	apply(0)
	goroutines, before := runtime.NumGoroutine(), series()
	for i := range 10_001 {
		apply(i)
	}
	if after := series(); after != before {
		t.Errorf("%d time series, want %d", after, before)
	}
	for left, deadline := 0, time.After(20*time.Second); ; {
		select {
		case n := <-conns:
			left += n
			continue
		case <-deadline:
			t.Fatalf("%d connections and %d goroutines are left, want 2 and %d at most", left, runtime.NumGoroutine(), goroutines+4)
		default:
		}
		if left <= 2 && runtime.NumGoroutine() <= goroutines+4 {
			return
		}
		runtime.Gosched()
	}
}

// TestThousandServicesTakeLittleMemory limits the memory of a service without traffic: its breaker, pool, fallback chain and time
// series.
func TestThousandServicesTakeLittleMemory(t *testing.T) {
	const services, limit = 1000, 100 << 10
	var text strings.Builder
	text.WriteString("routes:\n")
	for i := range services {
		fmt.Fprintf(&text, "  s%[1]d: {prefix: /s%[1]d, upstream: 'http://127.0.0.1:1', fallback: rag_service}\n", i)
	}
	c := parse(t, text.String())
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	meter := metrics.New(metrics.Config{Strategies: []string{"static"}})
	server := proxy.New(proxy.Config{Bus: new(events.Bus), Observers: meter, Logger: slog.New(slog.DiscardHandler)})
	if err := server.Apply(c); err != nil {
		t.Fatal(err)
	}
	each := (heap() - before) / services
	t.Logf("%d bytes per service", each)
	if each > limit {
		t.Errorf("%d bytes per service, want at most %d", each, limit)
	}
	runtime.KeepAlive(server)
	runtime.KeepAlive(meter)
}

// TestRequestKeepsItsBreakerMode checks that a request which began in shadow mode, under a configuration without a
// fallback, is not rejected by a breaker that enforces since: the next configuration is applied during its first attempt.
func TestRequestKeepsItsBreakerMode(t *testing.T) {
	var server *proxy.Server
	var enforce *routes.Config
	f := newFlakyUpstream(t, 1, func(w http.ResponseWriter) {
		if err := server.Apply(enforce); err != nil {
			t.Error(err)
		}
		w.WriteHeader(503) // opens the breaker
	})
	const retry = "retry: {attempts: 1, backoff: 1ms, budget: 1}"
	enforce = parse(t, routeConfig(f.URL, retry, "breaker: {fail_max: 1, mode: enforce}"))
	var address string
	var recorded *recorder
	server, address, recorded = start(t, routeConfig(f.URL, retry, "breaker: {fail_max: 1, mode: shadow}"))
	res, _ := get(t, "http://"+address+"/svc")
	if o := recorded.next(t); res.StatusCode != 200 || o.Attempts != 2 {
		t.Errorf("status %d, %+v", res.StatusCode, o)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 503 || f.requests.Load() != 2 {
		t.Errorf("the next request: status %d, the upstream got %d requests", res.StatusCode, f.requests.Load())
	}
}
