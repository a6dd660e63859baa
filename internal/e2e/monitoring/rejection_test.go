package monitoring

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"cbproxy/internal/e2e/harness"
)

// TestRejectionsOfClosedBreakersStateTheirReason checks that the response, the access log, the metrics, the health, cbproxy status and
// the trace of a throttled or recovering request state the reason, with a fallback and without.
func TestRejectionsOfClosedBreakersStateTheirReason(t *testing.T) {
	const throttle = "fail_max: 0, algorithm: throttle, throttle: {success_ratio: 1, aggression: 1000, max_rejection: 1, min_rps: 0}"
	for _, c := range []struct{ reason, breaker, detail string }{
		{"throttled", throttle, "the service is overloaded: its circuit breaker rejects a share of the requests"},
		{"recovering", "fail_max: 0, recovery_ramp: 1h", "the service is recovering: its circuit breaker lets a growing share of the requests through"},
	} {
		for _, format := range []string{"json", "text"} {
			t.Run(c.reason+" "+format, func(t *testing.T) {
				t.Parallel()
				checkRejections(t, c.reason, c.breaker, c.detail, format)
			})
		}
	}
}

func checkRejections(t *testing.T, reason, breaker, detail, format string) {
	collector := startCollector(t)
	u := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		status := "200 OK"
		if strings.HasSuffix(q.URL.Path, "/fail") {
			status = "500 Oh"
		}
		_, err := io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	})
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{
		Env: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + collector.http + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=50"},
		Config: accessLogConfig(file, ", format: "+format) + fmt.Sprintf(`
routes:
  none: {prefix: /none, upstream: %[1]q, timeout: 10, breaker: {%[2]s}, fallback_enabled: false}
  static: {prefix: /static, upstream: %[1]q, timeout: 10, breaker: {%[2]s}}
fallbacks: {static: {static: {status: 203, body: {a: 1}}}}
`, u.URL(), breaker),
	})
	for service, status := range map[string]int{"none": 503, "static": 203} {
		if reason == "recovering" {
			p.Force(service, `{"state": "half-open"}`)
			p.Get("/" + service) // the probe
		}
		rejected := harness.Response{}
		harness.Eventually(t, "a request is rejected", func() bool {
			rejected = p.Get("/" + service + "/fail")
			return rejected.Status == status
		})
		h := rejected.Header
		if h.Get("X-Circuit-Breaker-State") != "closed" || h.Get("Proxy-Status") == "" || h.Get("Retry-After") != "" {
			t.Errorf("%s: %v", service, h)
		}
		wantStrategy, wantReason, wantBody := "", "", `"detail":"`+detail+`"`
		if status == 203 {
			wantStrategy, wantReason, wantBody = "static", reason, `{"a":1}`
		}
		if h.Get("X-Fallback") != wantStrategy || h.Get("X-Fallback-Reason") != wantReason || !strings.Contains(rejected.Body, wantBody) {
			t.Errorf("%s: %v %s", service, h, rejected.Body)
		}
		if n := p.Metric(`cbproxy_requests_rejected_total{reason="` + reason + `",service="` + service + `"}`); n != 1 {
			t.Errorf("%s: %v rejections are counted, want 1", service, n)
		}
		s := p.Health().Services[service]
		rejection, admitted := p.Metric(`cbproxy_rejection_ratio{service="`+service+`"}`), p.Metric(`cbproxy_admitted_ratio{service="`+service+`"}`)
		if throttled := reason == "throttled"; throttled != (s.RejectionRatio > 0.9) || throttled != (rejection > 0.9) ||
			throttled == (s.AdmittedRatio < 0.2) || throttled == (admitted < 0.2) || throttled != (s.Algorithm == "throttle") {
			t.Errorf("%s: %+v; metrics %v %v", service, s, rejection, admitted)
		}
		if p.Metric(`cbproxy_breaker_algorithm{algorithm="`+s.Algorithm+`",service="`+service+`"}`) != 1 {
			t.Errorf("%s: no metric of the algorithm %s", service, s.Algorithm)
		}
		wantText := map[string]string{"throttled": "throttled: 100 % rejected", "recovering": "recovering: 10 % let through"}[reason]
		for _, args := range [][]string{{"status"}, {"status", service}} {
			if status, stdout, stderr := harness.RunCommand(t, append(args, "--admin", p.AdminURL)...); status != 0 || !strings.Contains(stdout, wantText) {
				t.Errorf("%v: exit status %d, no %q in\n%s%s", args, status, wantText, stdout, stderr)
			}
		}
		awaitRejectedLine(t, file, format, service, wantStrategy, reason)
		collector.awaitSpan(t, "the rejected request", func(s *trace.Span) bool {
			return attribute(s.Attributes, "cbproxy.service").GetStringValue() == service && attribute(s.Attributes, "cbproxy.reason").GetStringValue() == reason &&
				attribute(s.Attributes, "cbproxy.outcome").GetStringValue() == "rejected" && attribute(s.Attributes, "cbproxy.fallback.strategy").GetStringValue() == wantStrategy
		})
	}
}

// awaitRejectedLine waits for the line of a rejected request in an access log.
func awaitRejectedLine(t *testing.T, file, format, service, strategy, reason string) {
	t.Helper()
	words := []string{"service=" + service, "outcome=rejected", "state=closed", "attempts=0", "reason=" + reason}
	if strategy != "" {
		words = append(words, "fallback="+strategy)
	}
	if format == "json" {
		for i, word := range words {
			name, value, _ := strings.Cut(word, "=")
			if words[i] = fmt.Sprintf("%q:%q", name, value); value == "0" {
				words[i] = fmt.Sprintf("%q:0", name)
			}
		}
	}
	harness.Eventually(t, "a line of the rejected request has "+strings.Join(words, " "), func() bool {
		content, _ := os.ReadFile(file)
		for line := range strings.Lines(string(content)) {
			matches := strings.Contains(line, "fallback") == (strategy != "")
			for _, word := range words {
				matches = matches && strings.Contains(line, word)
			}
			if matches {
				return true
			}
		}
		return false
	})
}
