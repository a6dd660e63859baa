package clients

import (
	"fmt"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestPythonOrchestratorKeepsEventsOfInterruptedStream checks that the example completes when an upstream process is killed or
// stopped in the middle of a stream, and keeps the events that were complete.
func TestPythonOrchestratorKeepsEventsOfInterruptedStream(t *testing.T) {
	t.Parallel()
	skipWithoutHTTPX(t)
	cases := []struct {
		path  string
		fault func(*harness.Upstream)
	}{
		{"/sse", (*harness.Upstream).Kill}, {"/sse", (*harness.Upstream).Pause},
		{"/ndjson", (*harness.Upstream).Kill}, {"/ndjson", (*harness.Upstream).Pause},
	}
	var upstreams []streamUpstream
	var routes []ragRoute
	for _, c := range cases {
		u := startStreamUpstream(t)
		upstreams = append(upstreams, u)
		routes = append(routes, ragRoute{u.URL() + c.path, "idle_timeout: 1"})
	}
	p := startProxyForOrchestrators(t, routes)
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d%s", i, c.path), func(t *testing.T) {
			t.Parallel()
			o := startOrchestrator(t, fmt.Sprintf("%s/%d", p.URL, i))
			upstreams[i].awaitStream()
			c.fault(upstreams[i].Upstream)
			status := o.wait()
			if got := status.degraded(); got != fmt.Sprintf("rag%d", i) || status.Outcome != "degraded" || status.Notified != "sent" {
				t.Errorf("degraded: %s, status: %+v", got, status)
			}
			if got := errorOf(status); !strings.HasPrefix(got, "RemoteProtocolError: peer closed connection") {
				t.Errorf("error: %s", got)
			}
			if got := compact(t, status.Context); got != `[{"n":1},{"n":2}]` {
				t.Errorf("context: %s", got)
			}
		})
	}
}

// TestPythonOrchestratorCompletesWithoutUpstreams checks that the example completes if no upstream works, while the breakers are
// closed and when they are open.
func TestPythonOrchestratorCompletesWithoutUpstreams(t *testing.T) {
	t.Parallel()
	skipWithoutHTTPX(t)
	p := harness.StartProxy(t, harness.Options{Config: `defaults: {upstream: "http://127.0.0.1:1", breaker: {fail_max: 2, recovery_timeout: 60}}
routes: {rag_service: {}, rule_generation_service: {}, notifier_service: {}}
`})
	for i, reason := range []string{"connect", "connect", "open"} {
		status := startOrchestrator(t, p.URL).wait()
		want := "rag_service static " + reason + ", rule_generation_service static " + reason + ", notifier_service queue " + reason
		if got := status.degraded(); i != 1 && got != want || status.Outcome != "degraded" || status.Notified != "queued" {
			t.Errorf("run %d: degraded: %s, status: %+v", i, got, status)
		}
		if d := status.Degraded[0]; reason == "open" && (d.Breaker != "open" || d.RetryAfter < 1 || d.RetryAfter > 60) {
			t.Errorf("the step of the open breaker: %+v", d)
		}
	}
}

// TestPythonOrchestratorReportsUnavailableProxy checks that the example fails with one line if the proxy can't be reached.
func TestPythonOrchestratorReportsUnavailableProxy(t *testing.T) {
	t.Parallel()
	skipWithoutHTTPX(t)
	for _, proxy := range []string{"http://127.0.0.1:1", "127.0.0.1:1", "http://["} {
		o := startOrchestrator(t, proxy)
		_ = o.command.Wait() // the error repeats the exit status
		if got := o.errs.String(); o.command.ProcessState.ExitCode() != 1 || !strings.HasPrefix(got, "orchestrator: cbproxy can't be reached: ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: exit status %d: %s", proxy, o.command.ProcessState.ExitCode(), got)
		}
	}
}
