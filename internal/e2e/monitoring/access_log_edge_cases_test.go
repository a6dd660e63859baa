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

// Requests that a log easily gets wrong: without a body to count, with interim responses, over HTTP/2, of gRPC, cut
// off by either side, and under way at the end.
func TestAccessLogEdgeCases(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	const long = 1 << 20
	torn := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, r *bufio.Reader) bool {
		if strings.HasSuffix(q.URL.Path, "/endless") {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return false
				}
			}
		}
		return harness.RespondWith(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", long, strings.Repeat("x", 1000)), false)(c, q, r)
	})
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 100ms\n" + accessLogTo(file, "") + fmt.Sprintf(`
routes:
  svc: {prefix: /svc, upstream: %s, breaker: {fail_max: 9}}
  torn: {prefix: /torn, upstream: '%s', breaker: {fail_max: 9}}
  gone: {prefix: /gone, upstream: 'h2c://%s', breaker: {fail_max: 9}}
`, u.URL(), torn.URL(), harness.FreeAddress(t))})
	const agent = "Go-http-client/1.1"
	good := accessLine{Service: "svc", Method: "GET", Protocol: "HTTP/1.1", Status: 200, Outcome: "success", State: "closed", Attempts: 1, Agent: agent}

	res, err := http.Head(p.URL + "/svc/head")
	harness.ReadResponse(t, res, err)
	want := good
	want.Method, want.Path = "HEAD", "/svc/head"
	expectLine(t, awaitLine(t, file, want.Path), want)

	want = good
	want.Path, want.Sent = "/svc/hints", len(p.Get("/svc/hints").Body)
	expectLine(t, awaitLine(t, file, want.Path), want)

	plain := new(http.Protocols)
	plain.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: plain}}
	res, err = h2.Post(p.URL+"/svc/two", "text/plain", strings.NewReader("abc"))
	want.Method, want.Path, want.Protocol, want.Received, want.Sent, want.Agent = "POST", "/svc/two", "HTTP/2.0", 3, len(harness.ReadResponse(t, res, err).Body), "Go-http-client/2.0"
	expectLine(t, awaitLine(t, file, want.Path), want)

	res, err = h2.Post(p.URL+"/gone/call", "application/grpc", nil)
	harness.ReadResponse(t, res, err)
	want = good
	want.Service, want.Method, want.Path, want.Protocol, want.Outcome, want.Error, want.GRPC, want.Agent = "gone", "POST", "/gone/call", "HTTP/2.0", "failure", "connect", "UNAVAILABLE", "Go-http-client/2.0"
	expectLine(t, awaitLine(t, file, want.Path), want)

	want = good
	want.Service, want.Path, want.Outcome, want.Error, want.Cut, want.Sent = "torn", "/torn/early", "failure", "truncated", true, 1000
	if res, err = http.Get(p.URL + want.Path); err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if err == nil {
		t.Error("a response that is cut seems whole")
	}
	expectLine(t, awaitLine(t, file, want.Path), want)

	if res, err = http.Get(p.URL + "/torn/endless"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(res.Body, make([]byte, 1000))
	_ = res.Body.Close()
	if line := awaitLine(t, file, "/torn/endless"); line.Status != 200 || line.Sent < 1000 || line.Outcome != "cancelled" && line.Outcome != "success" || line.Error != "" {
		t.Errorf("left by the client: %+v", line)
	}

	go func() { _, _ = http.Get(p.URL + "/svc/hang") }()
	harness.Eventually(t, "it is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	p.Signal(syscall.SIGTERM)
	p.Wait()
	if line := awaitLine(t, file, "/svc/hang"); line.Outcome != "cancelled" || line.Status != 0 || !line.Cut {
		t.Errorf("cut at the end: %+v", line)
	}
}
