package e2e

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// inFlight starts a request and waits until the proxy has received it.
func inFlight(t *testing.T, p *harness.Proxy, path string) <-chan harness.Response {
	t.Helper()
	answered := make(chan harness.Response, 1)
	go func() {
		res, err := http.Get(p.URL + path)
		if err != nil {
			answered <- harness.Response{Body: err.Error()}
			return
		}
		answered <- harness.ReadResponse(t, res, err)
	}()
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	return answered
}

func TestShutdownWaitsForRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	answered := inFlight(t, p, "/svc/slow?for=1s")
	p.Signal(syscall.SIGTERM)
	harness.Eventually(t, "not ready, while the admin plane still answers", func() bool {
		res, err := http.Get(p.AdminURL + "/readyz")
		return harness.ReadResponse(t, res, err).Status == http.StatusServiceUnavailable
	})
	harness.Eventually(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if r := <-answered; r.Status != 200 || r.Body != "done" {
		t.Errorf("the request in flight: %+v", r)
	}
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestShutdownTimeoutAbortsRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 0.3\n" + harness.RouteConfig(u, 100)})
	answered := inFlight(t, p, "/svc/hang")
	p.Signal(syscall.SIGINT)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if r := <-answered; r.Status != 0 {
		t.Errorf("the hung request: %+v", r)
	}
}

func TestSecondSignalExitsImmediately(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 1h\n" + harness.RouteConfig(u, 100)})
	answered := inFlight(t, p, "/svc/hang")
	p.Signal(syscall.SIGTERM)
	harness.Eventually(t, "draining", func() bool { return strings.Contains(p.Log.String(), "shutting down") })
	p.Signal(syscall.SIGTERM)
	p.Wait()
	<-answered
}

func TestForcedStatesApplyAndExpire(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 1)})
	if r := p.Force("svc", `{"state":"open","reason":"maintenance"}`); r.Status != 200 || !strings.Contains(r.Body, `"circuit_breaker_state":"open"`) {
		t.Fatalf("%+v", r)
	}
	if r := p.Get("/svc"); r.Status != 503 || r.BreakerState() != "open" || r.Header.Get("Retry-After") != "" {
		t.Errorf("forced open without end: %+v", r)
	}
	if h := p.Health(); h.Services["svc"].Forced == nil || h.Services["svc"].Forced.Reason != "maintenance" || h.Status != "critical" {
		t.Errorf("health %+v", h)
	}
	p.Force("svc", `{"state":"auto"}`)
	if r := p.Get("/svc"); r.Status != 200 || r.BreakerState() != "half-open" {
		t.Errorf("after the release: %+v", r)
	}
	p.Force("svc", `{"state":"open","duration":"1s"}`)
	if r := p.Get("/svc"); r.Status != 503 || r.Header.Get("Retry-After") != "1" {
		t.Errorf("forced open for a second: %+v", r)
	}
	harness.Eventually(t, "the hold ends by itself", func() bool { return p.Health().Services["svc"].Forced == nil })
	p.Get("/svc")
	u.Kill()
	p.Force("svc", `{"state":"closed"}`)
	for range 5 {
		if r := p.Get("/svc"); r.Status != 502 || r.BreakerState() != "closed" {
			t.Fatalf("forced closed with a dead upstream: %+v", r)
		}
	}
	p.Force("svc", `{"state":"half-open"}`)
	if r := p.Get("/svc"); r.Status != 502 || r.BreakerState() != "half-open" {
		t.Errorf("forced to probe: %+v", r)
	}
	if r := p.Get("/svc"); r.BreakerState() != "open" {
		t.Errorf("after the failed probe: %+v", r)
	}
}
