package telemetry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// discardExporter discards spans.
type discardExporter struct{}

func (discardExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discardExporter) Shutdown(context.Context) error                             { return nil }

// discardWriter is a ResponseWriter that discards the body.
type discardWriter struct{ header http.Header }

func (d *discardWriter) Header() http.Header         { return d.header }
func (d *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (d *discardWriter) WriteHeader(int)             {}

// BenchmarkClosed measures a request through a closed breaker: without a tracer, with a tracer whose spans are not recorded,
// and with all spans recorded and exported. All three include the upstream's own work.
func BenchmarkClosed(b *testing.B) {
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
	}))
	defer u.Close()
	c, err := routes.Loader{Path: "bench.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}.Parse([]byte(route(u.URL)))
	if err != nil {
		b.Fatal(err)
	}
	w3c := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	for _, variant := range []struct {
		name    string
		sampler sdktrace.Sampler // nil: no tracer
	}{{"off", nil}, {"unrecorded", sdktrace.NeverSample()}, {"recorded", sdktrace.AlwaysSample()}} {
		b.Run(variant.name, func(b *testing.B) {
			config := proxy.Config{Bus: new(events.Bus), Observers: noopObservers{}, Logger: slog.New(slog.DiscardHandler)}
			if variant.sampler != nil {
				provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(variant.sampler), sdktrace.WithBatcher(discardExporter{}))
				defer func() { _ = provider.Shutdown(context.Background()) }()
				config.Tracer = newTracer(provider, w3c)
			}
			s := proxy.New(config)
			defer s.Close()
			if err := s.Apply(c); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/svc/x", nil)
				r.Header["Traceparent"] = []string{"00-" + clientTrace + "-" + clientSpan + "-01"}
				s.ServeHTTP(&discardWriter{http.Header{}}, r)
			}
		})
	}
}
