package attack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestHostileRequestsTeachNothing checks that requests with no verdict on the upstream change neither what a breaker has learnt nor its
// evidence.
func TestHostileRequestsTeachNothing(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`limits: {body_bytes: 64KiB, header_bytes: 8KiB, read_header_timeout: 60}
routes: {svc: {prefix: /svc, upstream: %q, max_in_flight: 1, breaker: {fail_max: 20, ignore_statuses: ["404"], adaptive: {mode: enforce, warmup: {calls: 50, time: 0s}}}}}
`, u.URL())})
	for range 60 {
		if r := p.Get("/svc"); r.Status != http.StatusOK {
			t.Fatalf("%+v", r)
		}
	}
	before := p.Baseline()
	if before.Calls != 60 || !before.Warm || before.Evidence != 0 {
		t.Fatalf("%+v", before)
	}
	for name, attack := range map[string]func(t *testing.T, p *harness.Proxy){
		"unknown path": func(_ *testing.T, p *harness.Proxy) { p.Get("/unknown") },
		"dot segment":  func(t *testing.T, p *harness.Proxy) { exchange(t, p, "GET /svc/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n") },
		"two lengths": func(t *testing.T, p *harness.Proxy) {
			exchange(t, p, "POST /svc HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
		},
		"no HTTP": func(t *testing.T, p *harness.Proxy) {
			exchange(t, p, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
		},
		"large header": func(_ *testing.T, p *harness.Proxy) {
			p.Send(http.MethodGet, "/svc", "", "X-Large", strings.Repeat("x", 16<<10))
		},
		"large upload":   func(_ *testing.T, p *harness.Proxy) { p.Send(http.MethodPost, "/svc", strings.Repeat("x", 65<<10)) },
		"endless upload": sendEndlessUpload,
		"broken upload": func(t *testing.T, p *harness.Proxy) {
			exchange(t, p, "POST /svc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
		},
		"aborted upload": func(t *testing.T, p *harness.Proxy) {
			exchange(t, p, "POST /svc HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
		},
		"cancelled": cancelRequest,
		"shed":      shedRequest,
		"proxy loop": func(_ *testing.T, p *harness.Proxy) {
			p.Send(http.MethodGet, "/svc", "", "Via", "1.1 "+p.Health().Instance)
		},
		"CONNECT":         func(t *testing.T, p *harness.Proxy) { exchange(t, p, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n") },
		"ended in header": func(_ *testing.T, p *harness.Proxy) { sendAndClose(p, "GET /svc HTTP/1.1\r\nHost: a\r\nX-") },
	} {
		for range 5 {
			attack(t, p)
		}
		if after := p.Baseline(); after.Calls != before.Calls || *after.FailureRatio != *before.FailureRatio || after.Evidence != 0 {
			t.Errorf("%s: %+v, before %+v", name, after, before)
		}
	}

	// Failures that an operator injects are evidence, and are not learnt.
	if r := p.AdminSend(http.MethodPost, "/api/v1/circuit-breakers/svc/faults", `{"kind": "abort", "status": 500, "share": 1, "duration": "1m", "reason": "a test"}`); r.Status != http.StatusCreated {
		t.Fatalf("%+v", r)
	}
	for range 4 {
		p.Get("/svc")
	}
	if after := p.Baseline(); after.Calls != before.Calls || *after.FailureRatio != *before.FailureRatio || after.Evidence == 0 {
		t.Errorf("after injected faults: %+v, before %+v", after, before)
	}
	for range 10 {
		p.Get("/svc")
	}
	if s := p.Health().Services["svc"]; s.State != "open" || s.Cause != "adaptive" {
		t.Errorf("after injected faults: %+v", s)
	}
	checkNoVerdicts(t, p)
}

func checkNoVerdicts(t *testing.T, p *harness.Proxy) {
	t.Helper()
	for verdict, n := range p.Baseline().Openings {
		if n != 0 {
			t.Errorf("%d openings are %s", n, verdict)
		}
	}
}

// TestClientProvokesDemotion checks what a client needs to switch a breaker to shadow mode: failures, and probes that succeed. After that
// the breaker works as without adaptive, until another limit opens it after evidence.
func TestClientProvokesDemotion(t *testing.T) {
	t.Parallel()
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(u.Close)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %q, breaker: "+
		"{fail_max: 20, recovery_timeout: 0.2, adaptive: {mode: enforce, warmup: {calls: 50, time: 0s}}}}}\n", u.URL)})
	for range 400 {
		p.Get("/svc")
	}
	const demoted = `cbproxy_adaptive_demoted{service="svc"}`
	for n := 1; n <= 4; n++ {
		if b := p.Baseline(); b.Demoted || p.Metric(demoted) != 0 {
			t.Fatalf("before opening %d: %+v", n, b)
		}
		for range 6 {
			if r := p.Get("/svc/fail"); r.BreakerState() != "closed" {
				t.Fatalf("opening %d: %+v", n, r)
			}
		}
		harness.Eventually(t, "the opening is in the history", func() bool {
			h := p.History("svc")
			return len(h) >= 3*n-2 && h[len(h)-(3*n-2)].Cause == "adaptive"
		})
		harness.Eventually(t, "the breaker is closed by a probe", func() bool {
			p.Get("/svc")
			return p.BreakerState() == "closed"
		})
	}
	if b := p.Baseline(); !b.Demoted || b.Mode != "shadow" || b.Openings["refuted"] != 4 || p.Metric(demoted) != 1 {
		t.Errorf("after four openings: %+v", b)
	}
	for n := range 20 { // the limit of consecutive failures
		if r := p.Get("/svc/fail"); r.BreakerState() != "closed" {
			t.Fatalf("failure %d: %+v", n+1, r)
		}
	}
	harness.Eventually(t, "fail_max has opened the breaker", func() bool {
		h := p.History("svc")
		return len(h) >= 13 && h[len(h)-13].Cause == "consecutive_failures"
	})
	if b := p.Baseline(); b.Demoted || b.Openings["earlier"] != 1 || p.Metric(demoted) != 0 {
		t.Errorf("after an opening by fail_max: %+v", b)
	}
}

// sendAndClose sends raw bytes and closes the connection.
func sendAndClose(p *harness.Proxy, raw string) {
	c, _ := p.Dial()
	_, _ = io.WriteString(c, raw)
	_ = c.Close()
}

// sendEndlessUpload sends chunks until the proxy responds.
func sendEndlessUpload(t *testing.T, p *harness.Proxy) {
	t.Helper()
	c, r := p.Dial()
	defer c.Close()
	_, _ = io.WriteString(c, "POST /svc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	go func() {
		for chunk := "1000\r\n" + strings.Repeat("x", 0x1000) + "\r\n"; ; {
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
		}
	}()
	res, err := http.ReadResponse(r, nil)
	if err == nil && res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", res.StatusCode)
	}
}

// exchange sends raw bytes, closes the sending side of the connection, and waits until the proxy closes its side.
func exchange(t *testing.T, p *harness.Proxy, raw string) {
	t.Helper()
	c, r := p.Dial()
	defer c.Close()
	_, _ = io.WriteString(c, raw)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r)
}

// requestWithContext begins a request and returns a channel that is closed when it has ended.
func requestWithContext(ctx context.Context, t *testing.T, url string) chan struct{} {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(r); err == nil {
			_ = res.Body.Close()
		}
	}()
	return done
}

const inFlight = `cbproxy_requests_in_flight{service="svc"}`

// cancelRequest cancels a request while the upstream processes it.
func cancelRequest(t *testing.T, p *harness.Proxy) {
	t.Helper()
	cancelled := `enhanced_circuit_breaker_requests_total{service="svc",status="cancelled"}`
	before := p.Metric(cancelled)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := requestWithContext(ctx, t, p.URL+"/svc/hang")
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(inFlight) == 1 })
	cancel()
	<-done
	harness.Eventually(t, "the request is counted as cancelled", func() bool { return p.Metric(cancelled) == before+1 && p.Metric(inFlight) == 0 })
}

// shedRequest sends a request while another one takes up the limit of the route, and then cancels that.
func shedRequest(t *testing.T, p *harness.Proxy) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := requestWithContext(ctx, t, p.URL+"/svc/hang")
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(inFlight) == 1 })
	if r := p.Get("/svc"); r.Status != http.StatusServiceUnavailable {
		t.Errorf("%+v", r)
	}
	cancel()
	<-done
	harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(inFlight) == 0 })
}
