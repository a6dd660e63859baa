package e2e

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// inFlight starts a request and waits until the proxy has received it.
func inFlight(t *testing.T, p *proxyProcess, path string) <-chan response {
	t.Helper()
	answered := make(chan response, 1)
	go func() {
		res, err := http.Get(p.data + path)
		if err != nil {
			answered <- response{body: err.Error()}
			return
		}
		answered <- read(t, res, err)
	}()
	eventually(t, "the request is in flight", func() bool { return p.metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	return answered
}

func TestShutdownWaitsForRequests(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: oneRoute(u, 10)})
	answered := inFlight(t, p, "/svc/slow?for=1s")
	p.signal(syscall.SIGTERM)
	eventually(t, "not ready, while the admin plane still answers", func() bool {
		res, err := http.Get(p.admin + "/readyz")
		return read(t, res, err).status == http.StatusServiceUnavailable
	})
	eventually(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.data, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if r := <-answered; r.status != 200 || r.body != "done" {
		t.Errorf("the request in flight: %+v", r)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestShutdownTimeoutAbortsRequests(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: "shutdown_timeout: 0.3\n" + oneRoute(u, 100)})
	answered := inFlight(t, p, "/svc/hang")
	p.signal(syscall.SIGINT)
	if status := p.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if r := <-answered; r.status != 0 {
		t.Errorf("the hung request: %+v", r)
	}
}

func TestSecondSignalExitsImmediately(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: "shutdown_timeout: 1h\n" + oneRoute(u, 100)})
	answered := inFlight(t, p, "/svc/hang")
	p.signal(syscall.SIGTERM)
	eventually(t, "draining", func() bool { return strings.Contains(p.log.String(), "shutting down") })
	p.signal(syscall.SIGTERM)
	p.wait()
	<-answered
}

func TestForcedStatesApplyAndExpire(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: oneRoute(u, 1)})
	if r := p.force("svc", `{"state":"open","reason":"maintenance"}`); r.status != 200 || !strings.Contains(r.body, `"circuit_breaker_state":"open"`) {
		t.Fatalf("%+v", r)
	}
	if r := p.get("/svc"); r.status != 503 || r.state() != "open" || r.header.Get("Retry-After") != "" {
		t.Errorf("forced open without end: %+v", r)
	}
	if h := p.health(); h.Services["svc"].Forced == nil || h.Services["svc"].Forced.Reason != "maintenance" || h.Status != "critical" {
		t.Errorf("health %+v", h)
	}
	p.force("svc", `{"state":"auto"}`)
	if r := p.get("/svc"); r.status != 200 || r.state() != "half-open" {
		t.Errorf("after the release: %+v", r)
	}
	p.force("svc", `{"state":"open","duration":"1s"}`)
	if r := p.get("/svc"); r.status != 503 || r.header.Get("Retry-After") != "1" {
		t.Errorf("forced open for a second: %+v", r)
	}
	eventually(t, "the hold ends by itself", func() bool { return p.health().Services["svc"].Forced == nil })
	p.get("/svc")
	u.kill()
	p.force("svc", `{"state":"closed"}`)
	for range 5 {
		if r := p.get("/svc"); r.status != 502 || r.state() != "closed" {
			t.Fatalf("forced closed with a dead upstream: %+v", r)
		}
	}
	p.force("svc", `{"state":"half-open"}`)
	if r := p.get("/svc"); r.status != 502 || r.state() != "half-open" {
		t.Errorf("forced to probe: %+v", r)
	}
	if r := p.get("/svc"); r.state() != "open" {
		t.Errorf("after the failed probe: %+v", r)
	}
}
