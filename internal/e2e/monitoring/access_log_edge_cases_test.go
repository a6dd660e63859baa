package monitoring

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestAccessLogEdgeCases checks the log lines of HEAD requests, of requests with informational responses, over HTTP/2 and
// of gRPC, that either side aborts, and that are in flight at shutdown.
func TestAccessLogEdgeCases(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	const announced = 1 << 20 // Content-Length of truncated responses
	truncating := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, r *bufio.Reader) bool {
		if strings.HasSuffix(q.URL.Path, "/endless") {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return false
				}
			}
		}
		return harness.RespondWith(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", announced, strings.Repeat("x", 1000)), false)(c, q, r)
	})
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 100ms\n" + accessLogConfig(file, "") + fmt.Sprintf(`
routes:
  svc: {prefix: /svc, upstream: %s, breaker: {fail_max: 9}}
  truncated: {prefix: /truncated, upstream: '%s', breaker: {fail_max: 9}}
  down: {prefix: /down, upstream: 'h2c://%s', breaker: {fail_max: 9}}
`, u.URL(), truncating.URL(), harness.FreeAddress(t))})
	const agent = "Go-http-client/1.1"
	success := accessLine{Service: "svc", Method: "GET", Protocol: "HTTP/1.1", Status: 200, Outcome: "success", State: "closed", Attempts: 1, Agent: agent}

	res, err := http.Head(p.URL + "/svc/head")
	harness.ReadResponse(t, res, err)
	want := success
	want.Method, want.Path = "HEAD", "/svc/head"
	checkLogLine(t, awaitLogLine(t, file, want.Path), want)

	want = success
	want.Path, want.Sent = "/svc/hints", len(p.Get("/svc/hints").Body)
	checkLogLine(t, awaitLogLine(t, file, want.Path), want)

	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	res, err = h2.Post(p.URL+"/svc/two", "text/plain", strings.NewReader("abc"))
	want.Method, want.Path, want.Protocol, want.Received, want.Sent, want.Agent = "POST", "/svc/two", "HTTP/2.0", 3, len(harness.ReadResponse(t, res, err).Body), "Go-http-client/2.0"
	checkLogLine(t, awaitLogLine(t, file, want.Path), want)

	res, err = h2.Post(p.URL+"/down/call", "application/grpc", nil)
	harness.ReadResponse(t, res, err)
	want = success
	want.Service, want.Method, want.Path, want.Protocol, want.Outcome, want.Error, want.GRPC, want.Agent = "down", "POST", "/down/call", "HTTP/2.0", "failure", "connect", "UNAVAILABLE", "Go-http-client/2.0"
	checkLogLine(t, awaitLogLine(t, file, want.Path), want)

	want = success
	want.Service, want.Path, want.Outcome, want.Error, want.Cut, want.Sent = "truncated", "/truncated/early", "failure", "truncated", true, 1000
	if res, err = http.Get(p.URL + want.Path); err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Error("the client did not notice that the response is truncated")
	}
	checkLogLine(t, awaitLogLine(t, file, want.Path), want)

	if res, err = http.Get(p.URL + "/truncated/endless"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(res.Body, make([]byte, 1000))
	_ = res.Body.Close()
	if line := awaitLogLine(t, file, "/truncated/endless"); line.Status != 200 || line.Sent < 1000 || line.Outcome != "cancelled" && line.Outcome != "success" || line.Error != "" {
		t.Errorf("aborted by the client: %+v", line)
	}

	go func() { _, _ = http.Get(p.URL + "/svc/hang") }()
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	p.Signal(syscall.SIGTERM)
	p.Wait()
	if line := awaitLogLine(t, file, "/svc/hang"); line.Outcome != "cancelled" || line.Status != 0 || !line.Cut {
		t.Errorf("aborted by the shutdown: %+v", line)
	}
}
