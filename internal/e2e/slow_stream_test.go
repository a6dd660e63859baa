package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// Streams that only comments keep open are replaced by the fallback, slow ones are cut, and both are shown in metrics, health, and the
// access log. A pause of the proxy is no failure of a stream that keeps its rate.
func TestSlowStreamsAreFailures(t *testing.T) {
	t.Parallel()
	repeat := func(first, next string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for text := first; r.Context().Err() == nil; text = next {
				_, _ = io.WriteString(w, text)
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	upstream := http.NewServeMux()
	upstream.Handle("/comments", repeat(": keep-alive\n\n", ": keep-alive\n\n"))
	upstream.Handle("/slow", repeat("data: 1\n\n", "event: ping\ndata: {}\n\n"))
	upstream.Handle("/steady", repeat("data: 1\n\n", "data: "+strings.Repeat("x", 1000)+"\n\n"))
	s := httptest.NewServer(upstream)
	t.Cleanup(s.Close)
	p := harness.StartProxy(t, harness.Options{Config: "access_log: {enabled: true}\n" +
		"routes: {svc: {prefix: /svc, upstream: \"" + s.URL + "\", stream_commit: first_byte, breaker: {fail_max: 0},\n" +
		"  stream: {first_event_timeout: 2s, min_bytes_per_second: 1000, window: 2s}}}\n" +
		"fallbacks: {svc: {try: [static], static: {body: {a: 1}}}}\n"})
	p.Stop()
	log := new(harness.LogBuffer)
	p.Stdout = log
	p.Start()

	if r := p.Get("/svc/comments"); r.Header.Get("X-Fallback-Reason") != "timeout" || r.Body != `{"a":1}` {
		t.Errorf("%+v", r)
	}
	open := func(path string) *http.Response {
		res, err := http.Get(p.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	res := open("/svc/slow")
	if body, err := io.ReadAll(res.Body); err == nil || !strings.HasPrefix(string(body), "data: 1\n\nevent: ping\n") {
		t.Errorf("%.100q, %v; want a stream that is cut", body, err)
	}
	for kind, detail := range map[string]string{"idle": "first_event_timeout is 2s", "slow_stream": "1 bytes in 2s, min_bytes_per_second is 1000"} {
		harness.Eventually(t, kind+" is counted and logged", func() bool {
			return p.FailureCount("svc", kind) == 1 && strings.Contains(log.String(), fmt.Sprintf(`"error":%q`, kind)) &&
				strings.Contains(p.Log.String(), detail)
		})
	}

	res = open("/svc/steady")
	event := make([]byte, 10_000)
	read := func() {
		t.Helper()
		if _, err := io.ReadFull(res.Body, event); err != nil {
			t.Fatal(err)
		}
	}
	read()
	p.Signal(syscall.SIGSTOP)
	time.Sleep(5 * time.Second) // more than two windows
	p.Signal(syscall.SIGCONT)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		read()
	}
	if n := p.FailureCount("svc", "slow_stream"); n != 1 {
		t.Errorf("%v slow streams are counted, want 1", n)
	}
}
