package monitoring

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// accessLine is a line of the access log.
type accessLine struct {
	Time     time.Time `json:"time"`
	Instance string    `json:"instance"`
	Service  string    `json:"service"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Query    string    `json:"query"`
	Protocol string    `json:"protocol"`
	Status   int       `json:"status"`
	GRPC     string    `json:"grpc_status"`
	Outcome  string    `json:"outcome"`
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
	Fallback string    `json:"fallback"`
	Reason   string    `json:"reason"`
	Cut      bool      `json:"cut"`
	Duration float64   `json:"duration_ms"`
	Upstream float64   `json:"upstream_ms"`
	Header   float64   `json:"header_ms"`
	Received int       `json:"request_bytes"`
	Sent     int       `json:"response_bytes"`
	Client   string    `json:"client"`
	Agent    string    `json:"user_agent"`
}

// readAccessLog returns the complete lines of an access log. It returns none if the file cannot be read.
func readAccessLog(t testing.TB, file string) (lines []accessLine) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for text := range strings.Lines(string(content)) {
		if !strings.HasSuffix(text, "\n") {
			break // the last line is incomplete
		}
		var line accessLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		lines = append(lines, line)
	}
	return lines
}

// awaitLogLine waits for a line of a request with the path, and returns it.
func awaitLogLine(t testing.TB, file, path string) (line accessLine) {
	t.Helper()
	harness.Eventually(t, "a line for "+path, func() bool {
		for _, line = range readAccessLog(t, file) {
			if line.Path == path {
				return true
			}
		}
		return false
	})
	return line
}

// accessLogConfig returns the configuration of an access log. options are further keys, each after a comma.
func accessLogConfig(file, options string) string {
	return fmt.Sprintf("access_log: {enabled: true, destination: %q%s}\n", file, options)
}

// checkLogLine compares a line with the wanted one. It checks that the fields that differ between runs are plausible.
func checkLogLine(t *testing.T, got, want accessLine) {
	t.Helper()
	if got.Instance == "" || got.Client == "" || time.Since(got.Time) > time.Minute || got.Duration <= 0 || got.Header > got.Duration || got.Upstream > got.Duration {
		t.Errorf("implausible line %+v", got)
	}
	got.Instance, got.Client, got.Time, got.Duration, got.Upstream, got.Header = "", "", time.Time{}, 0, 0, 0
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestAccessLogLinesDescribeRequests checks the log lines of successes, failures, rejections, retries, event streams,
// cancelled requests and tunnels.
func TestAccessLogLinesDescribeRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	var attempts atomic.Int64
	flaky := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, r *bufio.Reader) bool {
		if attempts.Add(1) == 1 {
			return harness.RespondWith("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", true)(c, q, r)
		}
		return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)(c, q, r)
	})
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{Config: accessLogConfig(file, "") + fmt.Sprintf(`
routes:
  svc: {prefix: /svc, upstream: %s, timeout: 20, breaker: {fail_max: 9}}
  dead: {prefix: /dead, upstream: 'http://%s', breaker: {fail_max: 1}, fallback: ok}
  flaky: {prefix: /flaky, upstream: '%s', retry: {attempts: 1, backoff: 1ms}}
fallbacks: {ok: {try: [static], static: {body: ok}}}
`, u.URL(), harness.FreeAddress(t), flaky.URL())})
	const agent = "Go-http-client/1.1"
	send := func(method, path, body string) harness.Response {
		r, err := http.NewRequest(method, p.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		return harness.ReadResponse(t, res, err)
	}

	r := send("POST", "/svc/healthy?token=secret", "12345")
	want := accessLine{Service: "svc", Method: "POST", Path: "/svc/healthy", Protocol: "HTTP/1.1", Status: 200, Outcome: "success", State: "closed",
		Attempts: 1, Received: 5, Sent: len(r.Body), Agent: agent}
	checkLogLine(t, awaitLogLine(t, file, "/svc/healthy"), want)

	send("GET", "/svc/slow?for=300ms", "")
	line := awaitLogLine(t, file, "/svc/slow")
	if line.Upstream < 300 || line.Header < line.Upstream || line.Duration < line.Header {
		t.Errorf("durations of a request that takes the upstream 300 ms: %+v", line)
	}

	r = send("GET", "/dead/failing", "")
	want = accessLine{Service: "dead", Method: "GET", Path: "/dead/failing", Protocol: "HTTP/1.1", Status: 200, Outcome: "failure", State: "closed",
		Attempts: 1, Error: "connect", Fallback: "static", Reason: "connect", Sent: len(r.Body), Agent: agent}
	checkLogLine(t, awaitLogLine(t, file, "/dead/failing"), want)

	send("GET", "/dead/open", "")
	want.Path, want.Outcome, want.State, want.Attempts, want.Error, want.Reason = "/dead/open", "rejected", "open", 0, "", "open"
	checkLogLine(t, awaitLogLine(t, file, "/dead/open"), want)

	send("GET", "/flaky/x", "")
	want = accessLine{Service: "flaky", Method: "GET", Path: "/flaky/x", Protocol: "HTTP/1.1", Status: 200, Outcome: "success", State: "closed", Attempts: 2, Sent: 2, Agent: agent}
	checkLogLine(t, awaitLogLine(t, file, "/flaky/x"), want)

	r = send("GET", "/nowhere", "")
	checkLogLine(t, awaitLogLine(t, file, "/nowhere"),
		accessLine{Method: "GET", Path: "/nowhere", Protocol: "HTTP/1.1", Status: 404, Outcome: "refused", Sent: len(r.Body), Agent: agent})

	r = send("POST", "/svc/events", "ab")
	checkLogLine(t, awaitLogLine(t, file, "/svc/events"), accessLine{Service: "svc", Method: "POST", Path: "/svc/events", Protocol: "HTTP/1.1", Status: 200,
		Outcome: "success", State: "closed", Attempts: 1, Received: 2, Sent: len(r.Body), Agent: agent})

	ctx, cancel := context.WithCancel(t.Context())
	cancelled, err := http.NewRequestWithContext(ctx, "GET", p.URL+"/svc/hang", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(cancelled); err == nil {
			_ = res.Body.Close()
			t.Error("the cancelled request got a response")
		}
	}()
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	cancel()
	<-done
	checkLogLine(t, awaitLogLine(t, file, "/svc/hang"), accessLine{Service: "svc", Method: "GET", Path: "/svc/hang", Protocol: "HTTP/1.1",
		Outcome: "cancelled", State: "closed", Attempts: 1, Cut: true, Agent: agent})

	socket, in := p.Dial()
	_, _ = io.WriteString(socket, "GET /svc/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	harness.ReadHead(t, in)
	_, _ = io.WriteString(socket, "hello")
	if _, err := io.ReadFull(in, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
	line = awaitLogLine(t, file, "/svc/socket")
	if line.Status != 101 || line.Received != 5 || line.Sent != 5 || line.Outcome != "success" {
		t.Errorf("tunnel: %+v", line)
	}
	if content, _ := os.ReadFile(file); strings.Contains(string(content), "secret") {
		t.Error("the log contains a query string")
	}
	if n := p.Metric("cbproxy_access_log_dropped_total"); n != 0 {
		t.Errorf("%v lines were dropped", n)
	}
}
