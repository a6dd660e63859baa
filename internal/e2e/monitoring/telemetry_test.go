package monitoring

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"cbproxy/internal/e2e/harness"
)

const (
	callerTraceID = "0af7651916cd43dd8448eb211c80319c"
	callerSpanID  = "b7ad6b7169203331"
)

// TestTracesAndMetricsReachCollector checks that spans continue the caller's trace, and that spans and metrics are
// exported over HTTP and gRPC, before the proxy exits.
func TestTracesAndMetricsReachCollector(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c, u := startCollector(t), harness.StartUpstream(t)
			endpoint := c.http
			if protocol == "grpc" {
				endpoint = c.grpc
			}
			p := harness.StartProxy(t, harness.Options{Config: "routes:\n  rag_service: {prefix: /rag, upstream: " + u.URL() + "}\n", Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint,
				"OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol, "OTEL_SERVICE_NAME=sidecar", "OTEL_RESOURCE_ATTRIBUTES=k8s.pod.name=pod-1", "OTEL_METRIC_EXPORT_INTERVAL=100"}})
			r, _ := http.NewRequest("GET", p.URL+"/rag/echo?secret=1", nil)
			r.Header.Set("traceparent", "00-"+callerTraceID+"-"+callerSpanID+"-01")
			res, err := http.DefaultClient.Do(r)
			if reply := harness.ReadResponse(t, res, err); reply.Status != 200 {
				t.Fatalf("status %d", reply.Status)
			}
			p.Get("/rag/second")
			p.Signal(syscall.SIGTERM) // before the first batch is exported
			if status := p.Wait(); status != 0 {
				t.Fatalf("exit status %d", status)
			}
			server := c.awaitSpan(t, "the request", func(s *trace.Span) bool {
				return hex.EncodeToString(s.ParentSpanId) == callerSpanID && s.Kind == trace.Span_SPAN_KIND_SERVER
			})
			client := c.awaitSpan(t, "the attempt", func(s *trace.Span) bool { return string(s.ParentSpanId) == string(server.SpanId) })
			for _, s := range []*trace.Span{server, client} {
				if hex.EncodeToString(s.TraceId) != callerTraceID || strings.Contains(s.String(), "secret") || s.EndTimeUnixNano < s.StartTimeUnixNano {
					t.Errorf("invalid span %v", s)
				}
			}
			if server.Name != "GET /rag" || attribute(server.Attributes, "cbproxy.service").GetStringValue() != "rag_service" || attribute(server.Attributes, "http.response.status_code").GetIntValue() != 200 {
				t.Errorf("invalid server span %v", server)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.resource["service.name"] != "sidecar" || c.resource["k8s.pod.name"] != "pod-1" || c.resource["service.instance.id"] == "" {
				t.Errorf("resource %v", c.resource)
			}
			checkExported(t, c)
		})
	}
}

// checkExported checks that the exported metrics equal those of /metrics, and that exemplars refer to the
// trace.
func checkExported(t *testing.T, c *collector) {
	t.Helper()
	exported, traces := c.metrics, map[string]bool{}
	for _, s := range c.spans {
		traces[string(s.TraceId)] = true
	}
	requests := exported["enhanced_circuit_breaker_requests_total"].GetSum()
	total := 0.0
	for _, point := range requests.GetDataPoints() {
		total += point.GetAsDouble()
	}
	if total != 2 || !requests.GetIsMonotonic() {
		t.Errorf("requests: %v", requests)
	}
	for _, name := range []string{"enhanced_circuit_breaker_state", "cbproxy_build_info", "cbproxy_forced"} {
		if exported[name] == nil {
			t.Errorf("%s is not exported", name)
		}
	}
	found := false
	for _, point := range exported["enhanced_circuit_breaker_response_time_seconds"].GetHistogram().GetDataPoints() {
		for _, e := range point.Exemplars {
			if len(e.TraceId) != 16 || len(e.SpanId) != 8 {
				t.Errorf("exemplar %v", e)
			}
			found = found || traces[string(e.TraceId)]
		}
	}
	if !found {
		t.Errorf("no exemplar refers to an exported trace: %v", exported["enhanced_circuit_breaker_response_time_seconds"])
	}
}

// TestScrapedExemplarsReferToTraces checks that /metrics contains exemplars with trace IDs if tracing is enabled.
func TestScrapedExemplarsReferToTraces(t *testing.T) {
	c, u := startCollector(t), harness.StartUpstream(t)
	config := "routes:\n  rag_service: {prefix: /rag, upstream: " + u.URL() + "}\n"
	scrape := func(p *harness.Proxy) (kind, text string) {
		r, _ := http.NewRequest("GET", p.AdminURL+"/metrics", nil)
		r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2")
		res, err := http.DefaultClient.Do(r)
		reply := harness.ReadResponse(t, res, err)
		return reply.Header.Get("Content-Type"), reply.Body
	}
	p := harness.StartProxy(t, harness.Options{Config: config, Env: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + c.http + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=50"}})
	p.Get("/rag/x")
	span := c.awaitSpan(t, "the request", func(s *trace.Span) bool { return s.Kind == trace.Span_SPAN_KIND_SERVER })
	if kind, text := scrape(p); !strings.HasPrefix(kind, "application/openmetrics-text") || !strings.Contains(text, `trace_id="`+hex.EncodeToString(span.TraceId)+`"`) {
		t.Errorf("the metrics, of type %s, contain no exemplar with the trace's ID:\n%s", kind, text)
	}
	p = harness.StartProxy(t, harness.Options{Config: config})
	p.Get("/rag/x")
	if kind, text := scrape(p); !strings.HasPrefix(kind, "text/plain") || strings.Contains(text, "trace_id") {
		t.Errorf("without tracing: the metrics have type %s, or contain trace IDs", kind)
	}
}

// TestConsoleExporterPrintsSpans checks that OTEL_TRACES_EXPORTER=console prints spans on standard output.
func TestConsoleExporterPrintsSpans(t *testing.T) {
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "routes:\n  rag_service: {prefix: /rag, upstream: " + u.URL() + "}\n", Env: []string{"OTEL_TRACES_EXPORTER=console"}})
	p.Kill()
	output := new(harness.LogBuffer)
	p.Stdout = output
	p.Start()
	p.Get("/rag/x")
	p.Signal(syscall.SIGTERM)
	p.Wait()
	var names []string
	for decoder := json.NewDecoder(strings.NewReader(output.String())); decoder.More(); {
		var span struct{ Name string }
		if err := decoder.Decode(&span); err != nil {
			t.Fatal(err)
		}
		names = append(names, span.Name)
	}
	if strings.Join(names, ", ") != "GET, GET /rag" {
		t.Errorf("spans %q", names)
	}
}

// TestDeadCollectorDoesNotDelayRequests uses a collector that accepts connections and never responds.
func TestDeadCollectorDoesNotDelayRequests(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in the backlog
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "routes:\n  rag_service: {prefix: /rag, upstream: " + u.URL() + ", timeout: 2s}\n", Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + l.Addr().String(),
		"OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_BSP_MAX_QUEUE_SIZE=16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4", "OTEL_BSP_EXPORT_TIMEOUT=200", "OTEL_METRIC_EXPORT_INTERVAL=50", "OTEL_METRIC_EXPORT_TIMEOUT=200"}})
	for range 500 {
		if reply := p.Get("/rag/x"); reply.Status != 200 {
			t.Fatalf("status %d", reply.Status)
		}
	}
	harness.Eventually(t, "the failed export is logged", func() bool { return strings.Contains(p.Log.String(), "cannot export OpenTelemetry data") })
	if n := strings.Count(p.Log.String(), "cannot export OpenTelemetry data"); n > 1 {
		t.Errorf("the failed exports are logged %d times", n)
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 || !strings.Contains(p.Log.String(), "cannot export the last traces or metrics") {
		t.Errorf("exit status %d", status)
	}
}

// TestInvalidTelemetryConfigFailsStart checks that the proxy exits with status 2 if an OpenTelemetry variable is
// invalid.
func TestInvalidTelemetryConfigFailsStart(t *testing.T) {
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "routes:\n  rag_service: {prefix: /rag, upstream: " + u.URL() + "}\n"})
	p.Kill()
	p.Env = append(p.Env, "OTEL_TRACES_EXPORTER=zipkin")
	p.Launch()
	if status := p.Wait(); status != 2 || !strings.Contains(p.Log.String(), `OTEL_TRACES_EXPORTER="zipkin"`) {
		t.Errorf("exit status %d:\n%s", status, p.Log)
	}
}

// TestQueuedDeliveryContinuesTrace checks that a later delivery is part of the request's trace, even if
// another process delivers it.
func TestQueuedDeliveryContinuesTrace(t *testing.T) {
	c, r := startCollector(t), harness.StartRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(r.Upstream, ""), Env: []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + c.http + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=50"}})
	p.Force("svc", `{"state": "open", "reason": "test"}`)
	p.MustQueue("a notification")
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.Start()
	p.Force("svc", `{"state": "auto"}`)
	r.AwaitDelivered("a notification")
	server := c.awaitSpan(t, "the request", func(s *trace.Span) bool { return s.Kind == trace.Span_SPAN_KIND_SERVER })
	delivery := c.awaitSpan(t, "the delivery", func(s *trace.Span) bool { return attribute(s.Attributes, "cbproxy.delivery").GetBoolValue() })
	if string(delivery.TraceId) != string(server.TraceId) || string(delivery.ParentSpanId) != string(server.SpanId) {
		t.Errorf("request %v\ndelivery %v", server, delivery)
	}
}
