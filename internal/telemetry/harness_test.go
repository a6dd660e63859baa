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
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// nobody observes nothing.
type nobody struct{}

func (nobody) Service(string) events.Observer  { return nobody{} }
func (nobody) Forget(string)                   {}
func (nobody) Begin()                          {}
func (nobody) Failed(events.ErrorType, int)    {}
func (nobody) Probed(bool)                     {}
func (nobody) FailedLocally(events.LocalError) {}
func (nobody) End(*events.Outcome)             {}

// traced is a real proxy whose spans are recorded.
type traced struct {
	*proxy.Server
	address string
	spans   *tracetest.SpanRecorder
}

func startTraced(t testing.TB, config string, options ...sdktrace.TracerProviderOption) *traced {
	t.Helper()
	c, err := routes.Loader{Path: "test.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}.Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	p := &traced{spans: tracetest.NewSpanRecorder()}
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(p.spans))...)
	propagator := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	logger := slog.New(slog.DiscardHandler)
	p.Server = proxy.New(proxy.Config{Bus: new(events.Bus), Observers: nobody{}, Tracer: newTracer(provider, propagator), Logger: logger})
	if err := p.Apply(c); err != nil {
		t.Fatal(err)
	}
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	s := proxy.NewHTTPServer(p.Server, c, logger)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listener) }()
	t.Cleanup(func() { _ = s.Close(); <-served; p.Close() })
	return p
}

// route is a configuration with one service.
func route(upstream string, keys ...string) string {
	return "routes:\n  svc:\n    prefix: /svc\n    upstream: " + upstream + "\n    " + strings.ReplaceAll(strings.Join(keys, "\n    "), "    \n", "\n") + "\n"
}

// ask sends a request with header fields, in pairs, and returns the response's status.
func (p *traced) ask(t testing.TB, method, path string, fields ...string) int {
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

// await returns the spans as they ended, once n requests of clients are over.
func (p *traced) await(t testing.TB, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		spans := p.spans.Ended()
		over := 0
		for _, s := range spans {
			if s.SpanKind() == trace.SpanKindServer {
				over++
			}
		}
		if over >= n {
			return spans
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d requests over, want %d", over, n)
		}
	}
}

// raw is an upstream that answers every connection's first request with text, byte for byte.
func raw(t testing.TB, text string) (url string) {
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

// tell puts what a span says into a line: its kind, name and status, and those attributes and
// events that do not differ from run to run.
func tell(s sdktrace.ReadOnlySpan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", s.SpanKind(), s.Name(), s.Status().Code)
	for _, a := range ordered(s.Attributes()) {
		fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
	}
	for _, e := range s.Events() {
		fmt.Fprintf(&b, "; %s", e.Name)
		for _, a := range ordered(e.Attributes) {
			fmt.Fprintf(&b, " %s=%s", a.Key, a.Value.String())
		}
	}
	return b.String()
}

func ordered(attributes []attribute.KeyValue) (kept []attribute.KeyValue) {
	for _, a := range attributes {
		key := string(a.Key)
		if strings.HasPrefix(key, "cbproxy.") && a.Key != waitKey && a.Key != serviceKey || key == "http.response.status_code" || key == "error.type" ||
			key == "http.request.resend_count" || key == "rpc.response.status_code" || key == "http.route" {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, func(a, b attribute.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return kept
}
