package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestClientErrorsDoNotOpenBreaker checks that failed uploads do not open a breaker that opens at the first
// failure.
func TestClientErrorsDoNotOpenBreaker(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "limits: {body_bytes: 1KiB}\nroutes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 10, breaker: {fail_max: 1}}}\n"})
	const requests = 20 // of each kind
	for range requests {
		if r := p.SendRaw("POST /svc/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbroken\r\n0\r\n\r\n"); r.Status != 400 {
			t.Fatalf("malformed body: %+v", r)
		}
	}
	for range requests {
		c, r := p.Dial()
		_, _ = io.WriteString(c, "POST /svc/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this")
		_ = c.(*net.TCPConn).CloseWrite()
		if response, _ := io.ReadAll(r); !strings.HasPrefix(string(response), "HTTP/1.1 400 ") {
			t.Fatalf("truncated body: %q", response)
		}
		_ = c.Close()
	}
	for _, head := range []string{"Content-Length: 1025\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n401\r\n" + strings.Repeat("x", 1025) + "\r\n0\r\n\r\n"} {
		for range requests {
			r := p.SendRaw("POST /svc/drain HTTP/1.1\r\nHost: x\r\n" + head)
			if r.Status != 413 || r.Header.Get("Content-Type") != "application/problem+json" || r.Header.Get("X-Circuit-Breaker-Service") != "svc" {
				t.Fatalf("body over the limit: %+v", r)
			}
		}
	}
	for n := range requests {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/svc/hang", nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if res, err := http.DefaultClient.Do(r); err == nil {
				_ = res.Body.Close()
				t.Errorf("cancelled request %d: status %d", n, res.StatusCode)
			}
		}()
		harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
		cancel()
		<-done
		harness.Eventually(t, "the request has ended", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	}
	if got := p.RequestCounts("svc"); got["cancelled"] != 5*requests || got["failure"] != 0 || got["rejected"] != 0 {
		t.Errorf("requests %v, want %d cancelled", got, 5*requests)
	}
	if s := p.Health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
		t.Errorf("service %+v", s)
	}
}

// TestEarlyResponseToLargeUploadIsForwarded checks that the client always gets a response sent during its
// upload, and that this is no upstream failure.
func TestEarlyResponseToLargeUploadIsForwarded(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", false))
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', breaker: {fail_max: 1}}}\n"})
	upload := bytes.Repeat([]byte("x"), 20<<20)
	for n := range 10 {
		res, err := http.Post(p.URL+"/svc", "text/plain", bytes.NewReader(upload))
		if r := harness.ReadResponse(t, res, err); r.Status != 413 || r.Body != "big" {
			t.Fatalf("upload %d: %+v", n, r)
		}
	}
	harness.Eventually(t, "all requests are counted as successes", func() bool { return p.RequestCounts("svc")["success"] == 10 })
}

// TestUpstreamCrashDuringPausedUploadCountsAsFailure checks that such a crash is an upstream failure, and
// that the client gets a response immediately, before the timeout, which does not report a client error.
func TestUpstreamCrashDuringPausedUploadCountsAsFailure(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"Content-Length": "Content-Length: 1000\r\n\r\nabc",
		"chunked":        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.StartRawUpstream(t, func(_ net.Conn, _ *http.Request, r *bufio.Reader) bool {
				_, _ = r.ReadByte() // the first byte of the body
				return false
			})
			p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: '%s', timeout: 10, breaker: {fail_max: 1, recovery_timeout: 60}}}\n", u.URL())})
			sent := time.Now()
			r := p.SendRaw("POST /svc HTTP/1.1\r\nHost: x\r\n" + head)
			if waited := time.Since(sent); r.Status != 502 || waited > 5*time.Second {
				t.Errorf("after %v: %+v", waited, r)
			}
			harness.Eventually(t, "the request has ended", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
			if p.FailureCount("svc", "reset") != 1 || p.Health().Services["svc"].State != "open" {
				t.Errorf("requests %v, service %+v", p.RequestCounts("svc"), p.Health().Services["svc"])
			}
		})
	}
}
