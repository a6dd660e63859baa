package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"cbproxy/fallbacks"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// noopObservers implements proxy.Observers and events.Observer and does nothing.
type noopObservers struct{}

func (noopObservers) Service(string) events.Observer  { return noopObservers{} }
func (noopObservers) Forget(string)                   {}
func (noopObservers) Begin()                          {}
func (noopObservers) Failed(events.ErrorType, int)    {}
func (noopObservers) Probed(bool)                     {}
func (noopObservers) HealthChecked(bool)              {}
func (noopObservers) Hedged(bool)                     {}
func (noopObservers) FailedLocally(events.LocalError) {}
func (noopObservers) End(*events.Outcome)             {}

// traced is a running proxy whose spans are recorded.
type traced struct {
	*proxy.Server
	address string
	spans   *tracetest.SpanRecorder
}

func startTraced(t testing.TB, config string, options ...sdktrace.TracerProviderOption) *traced {
	t.Helper()
	l := routes.Loader{Path: "test.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options(), Algorithms: algorithm.Options()}
	c, err := l.Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	p := &traced{spans: tracetest.NewSpanRecorder()}
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(p.spans))...)
	propagator := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	logger := slog.New(slog.DiscardHandler)
	p.Server = proxy.New(proxy.Config{Bus: new(events.Bus), Observers: noopObservers{}, Tracer: newTracer(provider, propagator), Logger: logger})
	if err := p.Apply(c); err != nil {
		t.Fatal(err)
	}
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	s := proxy.NewHTTPServer(p.Server, "", c, logger)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listener) }()
	t.Cleanup(func() { _ = s.Close(); <-served; p.Close() })
	return p
}

// route returns a configuration with the service svc.
func route(upstream string, keys ...string) string {
	return "routes:\n  svc:\n    prefix: /svc\n    upstream: " + upstream + "\n    " + strings.ReplaceAll(strings.Join(keys, "\n    "), "    \n", "\n") + "\n"
}

// send sends a request with the given header fields, name and value alternating, and returns the status of the response.
func (p *traced) send(t testing.TB, method, path string, fields ...string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// await waits until n server spans have ended and returns all ended spans in the order of their ends.
func (p *traced) await(t testing.TB, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		spans := p.spans.Ended()
		ended := 0
		for _, s := range spans {
			if s.SpanKind() == trace.SpanKindServer {
				ended++
			}
		}
		if ended >= n {
			return spans
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d server spans have ended, want %d", ended, n)
		}
	}
}

// startRawUpstream starts an upstream that answers the first request of each connection with the bytes of text, and returns
// its URL.
func startRawUpstream(t testing.TB, text string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(c, text)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// describeSpan returns a line with the kind, name and status of a span and its stable attributes and events.
func describeSpan(s sdktrace.ReadOnlySpan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", s.SpanKind(), s.Name(), s.Status().Code)
	for _, a := range stableAttributes(s.Attributes()) {
		fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
	}
	for _, e := range s.Events() {
		fmt.Fprintf(&b, "; %s", e.Name)
		for _, a := range stableAttributes(e.Attributes) {
			fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
		}
	}
	return b.String()
}

// stableAttributes returns the attributes that are the same in each run, sorted by key.
func stableAttributes(attributes []attribute.KeyValue) (kept []attribute.KeyValue) {
	for _, a := range attributes {
		key := string(a.Key)
		if strings.HasPrefix(key, "cbproxy.") && a.Key != waitKey && a.Key != serviceKey && a.Key != endpointKey || key == "http.response.status_code" || key == "error.type" ||
			key == "http.request.resend_count" || key == "rpc.response.status_code" || key == "http.route" {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, func(a, b attribute.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return kept
}
