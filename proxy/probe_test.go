package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// probedUpstream is an upstream that counts probes and other requests separately.
type probedUpstream struct {
	*httptest.Server
	// status is the status of the response to a probe, or how the response is incomplete: 0 means that there is none, 1 that it
	// has no end, 2 that it is truncated.
	status        atomic.Int32
	probes, calls atomic.Int32
}

func newProbedUpstream(t testing.TB) *probedUpstream {
	p := new(probedUpstream)
	p.status.Store(200)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/base/healthz" {
			p.calls.Add(1)
			return
		}
		p.probes.Add(1)
		if r.URL.RawQuery != "deep=1" || r.Method != http.MethodGet {
			w.WriteHeader(500)
			return
		}
		switch code := int(p.status.Load()); code {
		case 0:
			<-r.Context().Done()
		case 1:
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case 2:
			w.Header().Set("Content-Length", "5")
			_, _ = w.Write([]byte("hi"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(code)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func probedRouteConfig(url string, breaker string) string {
	return routeConfig(url+"/base", "breaker: {fail_max: 1, probe: {path: '/healthz?deep=1', interval: 20ms, timeout: 200ms}, "+breaker+"}")
}

// waitForState waits until a breaker is in a state.
func waitForState(t testing.TB, b *breaker.Breaker, want events.State) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); b.State() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("breaker is %v, want %v", b.State(), want)
		}
	}
}

func TestProberTestsRecoveryInsteadOfClients(t *testing.T) {
	for name, status := range map[string]int32{"complete response": 200, "endless response": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newProbedUpstream(t)
			u.status.Store(503)
			server, address, recorded := start(t, probedRouteConfig(u.URL, "recovery_timeout: 0.05, half_open_requests: 3"))
			b := server.Breaker("svc")
			b.Force(events.HalfOpen, 0, "test")
			waitForState(t, b, events.Open) // after a failed probe
			for b.Status().Transitions[events.Open] < 3 {
				res, _ := get(t, "http://"+address+"/svc")
				if o := recorded.next(t); res.StatusCode != 503 || o.Result != events.ResultRejected {
					t.Fatalf("status %d, %+v; want a rejection", res.StatusCode, o)
				}
			}
			if n := u.calls.Load(); n != 0 {
				t.Errorf("%d client requests reached the upstream", n)
			}
			failed := u.probes.Load()
			u.status.Store(status)
			waitForState(t, b, events.Closed)
			if n := u.probes.Load() - failed; n < 3 {
				t.Errorf("closed after %d probes, want 3 successes", n)
			}
			if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || u.calls.Load() != 1 {
				t.Errorf("after the recovery: status %d, %d client requests", res.StatusCode, u.calls.Load())
			}
			probes := u.probes.Load()
			recorded.mu.Lock()
			defer recorded.mu.Unlock()
			if len(recorded.probes) != int(probes) || len(recorded.failures) == 0 || recorded.failures[0] != events.ErrorStatus {
				t.Errorf("%d probes were sent, %d observed, failures %v", probes, len(recorded.probes), recorded.failures)
			}
		})
	}
}

func TestIncompleteProbeResponseIsAFailure(t *testing.T) {
	for status, kind := range map[int32]events.ErrorType{0: events.ErrorTimeout, 2: events.ErrorTruncated} {
		u := newProbedUpstream(t)
		u.status.Store(status)
		server, _, _ := start(t, probedRouteConfig(u.URL, "recovery_timeout: 60s"))
		b := server.Breaker("svc")
		b.Force(events.HalfOpen, 0, "test")
		waitForState(t, b, events.Open)
		if f := b.Status().LastFailure; f.Type != kind || !strings.Contains(f.Detail, "probe") {
			t.Errorf("%+v, want %s", f, kind)
		}
	}
}

// A reload that changes or removes the probe takes effect at once, even while a probe is in flight.
func TestReloadChangesTheProber(t *testing.T) {
	u := newProbedUpstream(t)
	u.status.Store(0)
	slow := strings.Replace(probedRouteConfig(u.URL, "recovery_timeout: 60s"), "200ms", "60s", 1)
	server, address, _ := start(t, slow)
	b := server.Breaker("svc")
	b.Force(events.HalfOpen, 0, "test")
	for u.probes.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := server.Apply(parse(t, routeConfig(u.URL, "breaker: {fail_max: 1}"))); err != nil {
		t.Fatal(err)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || b.State() != events.Closed {
		t.Errorf("status %d, breaker %v; want a client request that closes the breaker", res.StatusCode, b.State())
	}
	u.status.Store(200)
	if err := server.Apply(parse(t, probedRouteConfig(u.URL, "recovery_timeout: 60s"))); err != nil {
		t.Fatal(err)
	}
	b.Force(events.HalfOpen, 0, "test")
	waitForState(t, b, events.Closed)
	if n := fmt.Sprint(u.calls.Load()); n != "1" {
		t.Errorf("%s client requests, want 1", n)
	}
}

// With probe.grpc, recovery is tested by the health service of the upstream, on a new connection.
func TestProbeByGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream, healthService := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(upstream, healthService)
	go func() { _ = upstream.Serve(l) }()
	t.Cleanup(upstream.Stop)
	server, address, recorded := start(t, routeConfig("h2c://"+l.Addr().String(), "breaker: {fail_max: 1, recovery_timeout: 0.05, probe: {grpc: true, interval: 20ms, timeout: 30s}}"))
	b := server.Breaker("svc")
	healthService.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	b.Force(events.HalfOpen, 0, "test")
	waitForState(t, b, events.Open)
	if f := b.Status().LastFailure; f.Type != events.ErrorGRPC || f.Detail != "probe: health check: NOT_SERVING" {
		t.Errorf("%+v", f)
	}
	for b.Status().Transitions[events.Open] < 3 {
		get(t, "http://"+address+"/svc")
		if o := recorded.next(t); o.Result != events.ResultRejected {
			t.Fatalf("%+v, want a rejection", o)
		}
	}
	healthService.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	waitForState(t, b, events.Closed)
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if n := len(recorded.probes); n < 4 || len(recorded.failures) < 3 || !recorded.probes[n-1] {
		t.Errorf("probes %v, failures %v", recorded.probes, recorded.failures)
	}
}
