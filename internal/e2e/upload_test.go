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
)

// TestClientErrorsDoNotOpenBreaker checks that failed uploads do not open a breaker that opens at the first
// failure.
func TestClientErrorsDoNotOpenBreaker(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: "limits: {body_bytes: 1KiB}\nroutes: {svc: {prefix: /svc, upstream: '" + u.url() + "', timeout: 10, breaker: {fail_max: 1}}}\n"})
	const each = 20
	for range each {
		if r := p.ask("POST /svc/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbroken\r\n0\r\n\r\n"); r.status != 400 {
			t.Fatalf("malformed: %+v", r)
		}
	}
	for range each {
		c, r := p.dial()
		_, _ = io.WriteString(c, "POST /svc/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this")
		_ = c.(*net.TCPConn).CloseWrite()
		if answer, _ := io.ReadAll(r); !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Fatalf("truncated: %q", answer)
		}
		_ = c.Close()
	}
	for _, head := range []string{"Content-Length: 1025\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n401\r\n" + strings.Repeat("x", 1025) + "\r\n0\r\n\r\n"} {
		for range each {
			r := p.ask("POST /svc/drain HTTP/1.1\r\nHost: x\r\n" + head)
			if r.status != 413 || r.header.Get("Content-Type") != "application/problem+json" || r.header.Get("X-Circuit-Breaker-Service") != "svc" {
				t.Fatalf("over the limit: %+v", r)
			}
		}
	}
	for n := range each {
		ctx, leave := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.data+"/svc/hang", nil)
		if err != nil {
			t.Fatal(err)
		}
		left := make(chan struct{})
		go func() {
			defer close(left)
			if res, err := http.DefaultClient.Do(r); err == nil {
				_ = res.Body.Close()
				t.Errorf("abort %d: status %d", n, res.StatusCode)
			}
		}()
		eventually(t, "the request is in flight", func() bool { return p.metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
		leave()
		<-left
		eventually(t, "the request is over", func() bool { return p.metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	}
	if got := p.requests("svc"); got["cancelled"] != 5*each || got["failure"] != 0 || got["rejected"] != 0 {
		t.Errorf("requests %v, want %d cancelled", got, 5*each)
	}
	if s := p.health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
		t.Errorf("service %+v", s)
	}
}

// TestEarlyResponseToLargeUploadIsForwarded checks that the client always gets a response sent during its
// upload, and that this is no upstream failure.
func TestEarlyResponseToLargeUploadIsForwarded(t *testing.T) {
	t.Parallel()
	u := startWireUpstream(t, say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", false))
	p := startProxy(t, options{config: "routes: {svc: {prefix: /svc, upstream: '" + u.url() + "', breaker: {fail_max: 1}}}\n"})
	upload := bytes.Repeat([]byte("x"), 20<<20)
	for n := range 10 {
		res, err := http.Post(p.data+"/svc", "text/plain", bytes.NewReader(upload))
		if r := read(t, res, err); r.status != 413 || r.body != "big" {
			t.Fatalf("upload %d: %+v", n, r)
		}
	}
	eventually(t, "all are counted as successes", func() bool { return p.requests("svc")["success"] == 10 })
}

// TestUpstreamCrashDuringPausedUploadCountsAsFailure checks that such a crash is an upstream failure, and
// that the client gets a response immediately, before the timeout, which does not report a client error.
func TestUpstreamCrashDuringPausedUploadCountsAsFailure(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"of known length": "Content-Length: 1000\r\n\r\nabc",
		"chunked":         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := startWireUpstream(t, func(_ net.Conn, _ *http.Request, r *bufio.Reader) bool {
				_, _ = r.ReadByte() // of the body: it is under way
				return false
			})
			p := startProxy(t, options{config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: '%s', timeout: 10, breaker: {fail_max: 1, recovery_timeout: 60}}}\n", u.url())})
			sent := time.Now()
			r := p.ask("POST /svc HTTP/1.1\r\nHost: x\r\n" + head)
			if waited := time.Since(sent); r.status != 502 || waited > 5*time.Second {
				t.Errorf("after %v: %+v", waited, r)
			}
			eventually(t, "the request is over", func() bool { return p.metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
			if p.failures("svc", "reset") != 1 || p.health().Services["svc"].State != "open" {
				t.Errorf("requests %v, service %+v", p.requests("svc"), p.health().Services["svc"])
			}
		})
	}
}
