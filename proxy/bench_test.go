package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/accesslog"
	"cbproxy/internal/events"
	"cbproxy/internal/metrics"
	"cbproxy/internal/response"
	"cbproxy/routes"
)

// discardResponse is a ResponseWriter that ignores what is written.
type discardResponse struct{ header http.Header }

func (d *discardResponse) Header() http.Header         { return d.header }
func (d *discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (d *discardResponse) WriteHeader(int)             {}

func benchmarkServer(b *testing.B, upstream string, access events.AccessLog) *Server {
	return newTestServer(b, upstream, "auto", access)
}

// newTestServer returns a server with one service that uses the given transport.
func newTestServer(b testing.TB, upstream, transport string, access events.AccessLog, changes ...func(*routes.Route)) *Server {
	u, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	var s *Server
	m := metrics.New(metrics.Config{Strategies: []string{"static"}})
	s = New(Config{Bus: new(events.Bus), Observers: m, Access: access, Logger: slog.New(slog.DiscardHandler)})
	route := &routes.Route{
		Prefix: routes.Prefixes{"/rag"}, StripPrefix: true, Upstream: routes.Endpoints{{Upstream: routes.Upstream{URL: u}}},
		Transport: transport, Timeout: 30 * time.Second, IdleTimeout: time.Minute, ResponseBuffer: 64 << 10, FallbackEnabled: true,
	}
	route.Breaker.FailMax, route.Breaker.RecoveryTimeout, route.Breaker.HalfOpenRequests = 5, time.Minute, 1
	for _, change := range changes {
		change(route)
	}
	err = s.Apply(&routes.Config{
		Limits: routes.Limits{HeaderBytes: 64 << 10, BodyBytes: 32 << 20},
		Routes: map[string]*routes.Route{"rag_service": route},
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchmarkUpstream(b *testing.B) *httptest.Server {
	body := `{"d":"` + strings.Repeat("x", 1000) + `"}`
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	b.Cleanup(u.Close)
	return u
}

func benchmarkHandler(b *testing.B, h http.Handler) {
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/rag/x?q=1", nil)
		r.Header["User-Agent"] = []string{"bench"}
		r.Header["Accept"] = []string{"*/*"}
		h.ServeHTTP(&discardResponse{http.Header{}}, r)
	}
}

// BenchmarkClosed compares requests through a closed breaker with a plain ReverseProxy, both without listener and client. The
// differences in time and allocations are what cbproxy adds. Both include the work of the upstream.
func BenchmarkClosed(b *testing.B) {
	u := benchmarkUpstream(b)
	target, _ := url.Parse(u.URL)
	b.Run("bare", func(b *testing.B) {
		benchmarkHandler(b, &httputil.ReverseProxy{
			Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(target); pr.SetXForwarded() },
			Transport:  &http.Transport{MaxIdleConnsPerHost: 8192, DisableCompression: true},
			BufferPool: response.CopyBuffers{},
		})
	})
	b.Run("cbproxy", func(b *testing.B) { benchmarkHandler(b, benchmarkServer(b, u.URL, nil)) })
	file := filepath.Join(b.TempDir(), "access.log")
	for name, settings := range map[string]accesslog.Settings{
		"access log off":     {},
		"access log sampled": {Enabled: true, Destination: file, Format: "json", Sample: 0.01},
		"access log on":      {Enabled: true, Destination: file, Format: "json", Sample: 1},
	} {
		b.Run(name, func(b *testing.B) { benchmarkHandler(b, benchmarkServer(b, u.URL, accessLog(b, settings))) })
	}
}

func accessLog(tb testing.TB, settings accesslog.Settings) *accesslog.Log {
	log := accesslog.New("bench", slog.New(slog.DiscardHandler))
	change, err := log.Prepare(settings)
	if err != nil {
		tb.Fatal(err)
	}
	change.Commit()
	tb.Cleanup(log.Close)
	return log
}

// A disabled access log causes no allocations, neither for the decision whether to log a request nor for the fields of an outcome
// that only the log uses.
func TestDisabledAccessLogAllocatesNothing(t *testing.T) {
	log := accessLog(t, accesslog.Settings{})
	without := New(Config{Bus: new(events.Bus), Logger: slog.New(slog.DiscardHandler)})
	with := New(Config{Bus: new(events.Bus), Access: log, Logger: slog.New(slog.DiscardHandler)})
	r, w := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/nowhere", nil), &discardResponse{http.Header{}}
	base := testing.AllocsPerRun(1000, func() { without.ServeHTTP(w, r) })
	if n := testing.AllocsPerRun(1000, func() { with.ServeHTTP(w, r) }); n > base {
		t.Errorf("%v allocations with a disabled log, %v without a log", n, base)
	}
}
