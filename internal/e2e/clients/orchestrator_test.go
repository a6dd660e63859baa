package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// python is the interpreter for which Debian's packages are installed.
const python = "/usr/bin/python3"

// orchestrator is a running examples/orchestrator-python.
type orchestrator struct {
	t         *testing.T
	command   *exec.Cmd
	out, errs bytes.Buffer
}

// startOrchestrator starts the example for one event. args are additional arguments.
func startOrchestrator(t *testing.T, proxy string, args ...string) *orchestrator {
	t.Helper()
	program := filepath.Join(harness.Repository, "examples/orchestrator-python/orchestrator.py")
	// -B: do not write compiled files to the repository.
	o := &orchestrator{t: t, command: exec.CommandContext(t.Context(), python, append([]string{"-B", program, "--proxy", proxy, "Who opened door 7?"}, args...)...)}
	o.command.Stdout, o.command.Stderr = &o.out, &o.errs
	if err := o.command.Start(); err != nil {
		t.Fatal(err)
	}
	return o
}

// orchestration is the status that the example prints.
type orchestration struct {
	Outcome  string
	Degraded []degradation
	Context  json.RawMessage
	Notified string
}

type degradation struct {
	Service, By, Reason, Breaker, Error string
	RetryAfter                          int `json:"retry_after"`
}

// wait waits until the program has exited, and returns the status that it printed. It fails the test if the program has failed
// or has written to standard error.
func (o *orchestrator) wait() (status orchestration) {
	o.t.Helper()
	if err := o.command.Wait(); err != nil || o.errs.Len() > 0 {
		o.t.Fatalf("%v: %s", err, &o.errs)
	}
	if err := json.Unmarshal(o.out.Bytes(), &status); err != nil {
		o.t.Fatalf("%v: %s", err, &o.out)
	}
	return status
}

// degraded returns a text with the service, strategy and reason of each degraded step.
func (s orchestration) degraded() string {
	var steps []string
	for _, d := range s.Degraded {
		steps = append(steps, strings.TrimSpace(d.Service+" "+d.By+" "+d.Reason))
	}
	return strings.Join(steps, ", ")
}

// ragRoute is the route of a RAG service.
type ragRoute struct{ upstream, keys string }

// startProxyForOrchestrators starts a proxy with several RAG services, and working upstreams for the other services. An
// orchestrator whose base URL is that of the proxy with /0 uses the first RAG service, rag0, and so on.
func startProxyForOrchestrators(t *testing.T, routes []ragRoute) *harness.Proxy {
	t.Helper()
	var config strings.Builder
	config.WriteString("routes:\n")
	for i, r := range routes {
		fmt.Fprintf(&config, "  rag%d: {prefix: /%[1]d/rag, fallback: rag_service, upstream: %q, %s}\n", i, r.upstream, r.keys)
	}
	for _, s := range []struct{ name, prefix, upstream string }{
		{"rule_generation_service", "rules", harness.StartUpstream(t).URL()},
		{"notifier_service", "notify", harness.StartRecorder(t).URL()},
	} {
		fmt.Fprintf(&config, "  %s: {upstream: %q, prefix: [", s.name, s.upstream)
		for i := range routes {
			fmt.Fprintf(&config, "/%d/%s, ", i, s.prefix)
		}
		config.WriteString("]}\n")
	}
	return harness.StartProxy(t, harness.Options{Config: config.String()})
}

func skipWithoutHTTPX(t *testing.T) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), python, "-c", "import httpx").Run(); err != nil {
		testenv.SkipUnlessCI(t, "python3-httpx", err)
	}
}

// TestPythonOrchestratorDetectsDegradedSteps checks that the example completes whatever an upstream does before its response, or
// the beginning of a stream, has reached the client.
func TestPythonOrchestratorDetectsDegradedSteps(t *testing.T) {
	t.Parallel()
	skipWithoutHTTPX(t)
	raw := func(handler harness.RawHandler) func(*testing.T) string {
		return func(t *testing.T) string { return harness.StartRawUpstream(t, handler).URL() }
	}
	cases := []struct {
		name     string
		upstream func(t *testing.T) (url string)
		keys     string // of the route
		args     []string
		degraded string // strategy and reason, "-" without a fallback
		error    string // its beginning
		context  string // its beginning, without spaces
	}{
		{name: "works", upstream: func(t *testing.T) string { return harness.StartUpstream(t).URL() }, context: `{"target":"/query"`},
		{name: "streams events", upstream: raw(cut("Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked",
			chunk("data: 1\n\nda")+chunk("ta: \"\u2028\"\n\n")+"0\r\n\r\n")), context: `[1,"\u2028"]`},
		{name: "streams lines", upstream: raw(cut("Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked", chunk("1\n[2")+chunk("]\n{}")+"0\r\n\r\n")), context: `[1,[2],{}]`},
		{name: "is not JSON", upstream: raw(cut("Content-Length: 7", "<html/>")), context: "null"},
		{name: "is nested too deeply", upstream: raw(cut("Content-Length: 200000", strings.Repeat("[", 200_000))), context: "null"},
		{name: "is dead", upstream: func(t *testing.T) string { u := harness.StartUpstream(t); u.Kill(); return u.URL() }, degraded: "static connect", context: `{"linked_explanation":`},
		{name: "hangs", upstream: func(t *testing.T) string { u := harness.StartUpstream(t); u.Pause(); return u.URL() }, keys: "timeout: 0.3", degraded: "static timeout", context: `{"linked_explanation":`},
		{name: "crawls", upstream: raw(crawl("Content-Length: 60000", "x")), keys: "timeout: 0.3", degraded: "static timeout", context: `{"linked_explanation":`},
		{name: "is cut", upstream: raw(cut("Content-Length: 60000", "{")), degraded: "static reset", context: `{"linked_explanation":`},
		{name: "is malformed", upstream: raw(harness.RespondWith("HTTP/9 maybe\r\n\r\n", false)), degraded: "static reset", context: `{"linked_explanation":`},
		{name: "fails", upstream: raw(harness.RespondWith("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}", false)), degraded: "-", context: "{}"},
		{name: "is cut within a long response", upstream: raw(cut("Content-Length: 300000", longBody)), degraded: "-", error: "RemoteProtocolError: peer closed connection", context: "null"},
		{name: "crawls within a long response", upstream: raw(crawl("Content-Length: 300000", "x")), keys: "timeout: 2", degraded: "-", error: "RemoteProtocolError: peer closed connection", context: "null"},
		{name: "is too large", upstream: raw(cut("Content-Length: 2000000", strings.Repeat("[", 2_000_000))), degraded: "-", error: "ResponseTooLargeError: ", context: "null"},
		{name: "streams for ever", upstream: raw(crawl("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked", chunk("data: 1\n\n"))), args: []string{"--timeout", "5"},
			degraded: "-", error: "TimeoutError", context: `[1,`},
	}
	var routes []ragRoute
	for _, c := range cases {
		routes = append(routes, ragRoute{c.upstream(t), c.keys})
	}
	p := startProxyForOrchestrators(t, routes)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status := startOrchestrator(t, fmt.Sprintf("%s/%d", p.URL, i), c.args...).wait()
			want := ""
			if c.degraded != "" {
				want = strings.TrimSuffix(fmt.Sprintf("rag%d %s", i, c.degraded), " -")
			}
			if got := status.degraded(); got != want {
				t.Errorf("degraded: %s", got)
			}
			if (status.Outcome == "complete") != (want == "") || status.Notified != "sent" {
				t.Errorf("outcome: %s, notified: %s", status.Outcome, status.Notified)
			}
			if got := errorOf(status); !strings.HasPrefix(got, c.error) || (got == "") != (c.error == "") {
				t.Errorf("error: %q", got)
			}
			if got := compact(t, status.Context); !strings.HasPrefix(got, c.context) {
				t.Errorf("context: %s", got)
			}
		})
	}
}

// errorOf returns the error of the first degraded step.
func errorOf(status orchestration) string {
	if len(status.Degraded) == 0 {
		return ""
	}
	return status.Degraded[0].Error
}

// compact returns a JSON value without spaces between its tokens.
func compact(t *testing.T, value json.RawMessage) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, value); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
