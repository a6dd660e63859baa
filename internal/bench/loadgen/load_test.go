package loadgen

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// load100 returns a load of a hundred requests to s with the expected response "ok".
func load100(s *httptest.Server) Load {
	return Load{
		Address:     s.Listener.Addr().String(),
		Request:     []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		Requests:    100,
		Connections: 4,
		Status:      http.StatusOK,
		Length:      len("ok"),
	}
}

func TestLoadReusesConnections(t *testing.T) {
	var requests, connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = io.WriteString(w, "ok")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()

	l := load100(s)
	r, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n != 100 || len(r.Latencies) != 100 || r.Errors != 0 {
		t.Errorf("got %d requests, %d responses and %d errors (%v), want 100, 100 and 0", n, len(r.Latencies), r.Errors, r.LastError)
	}
	if n := connections.Load(); n > 4 {
		t.Errorf("got %d connections, want at most 4", n)
	}
	if p50, p99 := r.Quantile(0.5), r.Quantile(0.99); p50 <= 0 || p50 > p99 {
		t.Errorf("got p50 %v and p99 %v, want 0 < p50 <= p99", p50, p99)
	}
}

func TestVariedRequestsDiffer(t *testing.T) {
	var queries sync.Map
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.RawQuery) != len("000") {
			t.Errorf("got the query %q", r.URL.RawQuery)
		}
		queries.Store(r.URL.RawQuery, true)
		_, _ = io.WriteString(w, "ok")
	}))
	defer s.Close()
	l := load100(s)
	l.Request, l.Varied = []byte("GET /?000 HTTP/1.1\r\nHost: localhost\r\n\r\n"), []byte("000")
	if r, err := l.Run(t.Context()); err != nil || len(r.Latencies) != 100 {
		t.Fatalf("got %d responses, %v", len(r.Latencies), err)
	}
	n := 0
	queries.Range(func(any, any) bool { n++; return true })
	if _, last := queries.Load("000"); n != 100 || !last {
		t.Errorf("got %d distinct requests, want 100", n)
	}
}

func TestUnexpectedResponsesCountAsErrors(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"status":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "k", http.StatusBadGateway) },
		"length":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "not ok") },
		"connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(handler)
			defer s.Close()
			l := load100(s)
			r, err := l.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Errors != 100 || len(r.Latencies) != 0 || r.LastError == nil {
				t.Errorf("got %d errors (%v) and %d responses, want 100 and 0", r.Errors, r.LastError, len(r.Latencies))
			}
		})
	}
}

func TestLoadEndsIfNothingListens(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	l := load100(s)
	r, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors != 100 {
		t.Errorf("got %d errors, want 100", r.Errors)
	}
}

func TestReadHead(t *testing.T) {
	for text, want := range map[string]head{
		"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n":                      {status: 200, length: 12},
		"HTTP/1.1 503\r\ncontent-length:0\r\nConnection: close\r\n\r\n":      {status: 503, length: 0, close: true},
		"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 7\n\n": {status: 200, length: 7},
	} {
		if got, err := readHead(bufio.NewReader(strings.NewReader(text))); err != nil || got != want {
			t.Errorf("%q: got %+v and %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"",
		"nonsense\r\n\r\n",
		"HTTP/1.1 xyz OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n",
	} {
		if got, err := readHead(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q: got %+v, want an error", text, got)
		}
	}
}
