package telemetry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// startOTelHTTP starts a plain ReverseProxy between otelhttp's handler and its transport.
func startOTelHTTP(t *testing.T, upstream *url.URL) (address string, spans *tracetest.SpanRecorder) {
	spans = tracetest.NewSpanRecorder()
	options := []otelhttp.Option{otelhttp.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))), otelhttp.WithPropagators(propagation.TraceContext{})}
	mux := http.NewServeMux()
	mux.Handle("/svc/", otelhttp.NewHandler(&httputil.ReverseProxy{
		Rewrite:   func(pr *httputil.ProxyRequest) { pr.SetURL(upstream) },
		Transport: otelhttp.NewTransport(&http.Transport{}, options...),
	}, "", options...))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), spans
}

// OpenTelemetry's own instrumentation of net/http sets the same attributes on both spans, except for the differences listed
// here.
func TestSpanAttributesMatchOTelHTTP(t *testing.T) {
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if status := r.Header.Get("X-Status"); status != "" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}))
	defer u.Close()
	upstream, _ := url.Parse(u.URL)
	p := startTraced(t, route(u.URL))
	reference, spans := startOTelHTTP(t, upstream)
	different := map[attribute.Key]string{ // with the reason
		"http.route":        "otelhttp sets the pattern of net/http",
		"server.port":       "in the server span: two servers have two ports",
		"network.peer.port": "in the server span: two connections have two ports",
		"url.full":          "cbproxy leaves out the query",
	}
	for name, c := range map[string]struct {
		method, path string
		body         string
		header       http.Header
	}{
		"GET":            {"GET", "/svc/a?token=secret", "", http.Header{"User-Agent": {"test/1"}}},
		"POST":           {"POST", "/svc/", "body", nil},
		"HEAD":           {"HEAD", "/svc/", "", nil},
		"unknown method": {"PROPFIND", "/svc/", "", nil},
		"error status":   {"GET", "/svc/", "", http.Header{"X-Status": {"418"}}},
		"no user agent":  {"GET", "/svc/", "", http.Header{"User-Agent": {""}}},
	} {
		t.Run(name, func(t *testing.T) {
			p.spans.Reset()
			spans.Reset()
			for _, to := range []string{p.address, reference} {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				r, _ := http.NewRequestWithContext(ctx, c.method, "http://"+to+c.path, bytes.NewBufferString(c.body))
				if c.header != nil {
					r.Header = c.header
				}
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			recorded := p.await(t, 1)
			for _, kind := range []trace.SpanKind{trace.SpanKindServer, trace.SpanKindClient} {
				got, want := attributesOf(t, recorded, kind), attributesOf(t, (&traced{spans: spans}).await(t, 1), kind)
				for key, value := range want {
					if different[key] != "" && (kind == trace.SpanKindServer || key == "url.full") {
						continue
					}
					if got[key] != value {
						t.Errorf("%v span: %s=%q, otelhttp sets %q", kind, key, got[key], value)
					}
				}
				if full := got["url.full"]; strings.Contains(full, "secret") || kind == trace.SpanKindClient && !strings.HasPrefix(full, u.URL+"/svc/") {
					t.Errorf("url.full %q", full)
				}
			}
		})
	}
}

func attributesOf(t *testing.T, spans []sdktrace.ReadOnlySpan, kind trace.SpanKind) map[attribute.Key]string {
	t.Helper()
	for _, s := range spans {
		if s.SpanKind() == kind {
			all := map[attribute.Key]string{}
			for _, a := range s.Attributes() {
				all[a.Key] = a.Value.String()
			}
			return all
		}
	}
	t.Fatalf("no %v span", kind)
	return nil
}
