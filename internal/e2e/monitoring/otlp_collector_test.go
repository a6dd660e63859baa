package monitoring

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	metricscollector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracecollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"cbproxy/internal/e2e/harness"
)

// collector is an OpenTelemetry collector that records traces and metrics, received by OTLP over HTTP and over gRPC.
type collector struct {
	tracecollector.UnimplementedTraceServiceServer
	http, grpc string // endpoints

	mu       sync.Mutex // guards the fields below
	spans    []*trace.Span
	metrics  map[string]*metrics.Metric // the latest by name
	resource map[string]string          // attributes of the resource
}

func startCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{metrics: map[string]*metrics.Metric{}, resource: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var request tracecollector.ExportTraceServiceRequest
		if decodeExport(t, w, r, &request) {
			_, _ = c.Export(r.Context(), &request)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var request metricscollector.ExportMetricsServiceRequest
		if decodeExport(t, w, r, &request) {
			c.recordMetrics(&request)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	tracecollector.RegisterTraceServiceServer(g, c)
	metricscollector.RegisterMetricsServiceServer(g, metricsService{c: c})
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	c.http, c.grpc = s.URL, "http://"+l.Addr().String()
	return c
}

// decodeExport decodes an export request over HTTP. If it is invalid, decodeExport fails the test and responds with 400.
func decodeExport(t testing.TB, w http.ResponseWriter, r *http.Request, into proto.Message) bool {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return false
		}
		body = z
	}
	content, err := io.ReadAll(body)
	if err == nil {
		err = proto.Unmarshal(content, into)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("%v, content type %q", err, r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	return true
}

// Export records spans.
func (c *collector) Export(_ context.Context, r *tracecollector.ExportTraceServiceRequest) (*tracecollector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		for _, a := range resource.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	return &tracecollector.ExportTraceServiceResponse{}, nil
}

// metricsService is the gRPC service for metrics. The collector itself is the one for traces.
type metricsService struct {
	metricscollector.UnimplementedMetricsServiceServer
	c *collector
}

func (s metricsService) Export(_ context.Context, r *metricscollector.ExportMetricsServiceRequest) (*metricscollector.ExportMetricsServiceResponse, error) {
	s.c.recordMetrics(r)
	return &metricscollector.ExportMetricsServiceResponse{}, nil
}

func (c *collector) recordMetrics(r *metricscollector.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.ResourceMetrics {
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				c.metrics[m.Name] = m
			}
		}
	}
}

// awaitSpan waits for a span that matches and returns it.
func (c *collector) awaitSpan(t testing.TB, what string, matches func(*trace.Span) bool) (found *trace.Span) {
	t.Helper()
	harness.Eventually(t, "the span of "+what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := slices.IndexFunc(c.spans, matches); i >= 0 {
			found = c.spans[i]
		}
		return found != nil
	})
	return found
}

// attribute returns the value of an attribute, or nil.
func attribute(attributes []*common.KeyValue, key string) *common.AnyValue {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}
