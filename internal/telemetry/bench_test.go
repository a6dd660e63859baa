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

// sink exports spans to nowhere.
type sink struct{}

func (sink) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (sink) Shutdown(context.Context) error                             { return nil }

// discard is a ResponseWriter that costs next to nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// The closed path without a tracer, with one whose spans are not recorded, and with all spans
// recorded and handed to an exporter. The upstream's own work is in all three.
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
	for _, way := range []struct {
		name    string
		sampler sdktrace.Sampler // nil: no tracer
	}{{"off", nil}, {"unrecorded", sdktrace.NeverSample()}, {"recorded", sdktrace.AlwaysSample()}} {
		b.Run(way.name, func(b *testing.B) {
			config := proxy.Config{Bus: new(events.Bus), Observers: nobody{}, Logger: slog.New(slog.DiscardHandler)}
			if way.sampler != nil {
				provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(way.sampler), sdktrace.WithBatcher(sink{}))
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
				r.Header["Traceparent"] = []string{"00-" + theirTrace + "-" + theirSpan + "-01"}
				s.ServeHTTP(&discard{http.Header{}}, r)
			}
		})
	}
}
