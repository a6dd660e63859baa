package main

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

// load100 is a hundred requests for the server s, whose answer is to be "ok".
func load100(s *httptest.Server) load {
	return load{
		address:     s.Listener.Addr().String(),
		request:     []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		requests:    100,
		connections: 4,
		status:      http.StatusOK,
		length:      len("ok"),
	}
}

func TestLoadKeepsItsConnections(t *testing.T) {
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
	r, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n != 100 || len(r.latencies) != 100 || r.errors != 0 {
		t.Errorf("got %d requests, %d answers and %d errors (%v), want 100, 100 and 0", n, len(r.latencies), r.errors, r.lastError)
	}
	if n := connections.Load(); n > 4 {
		t.Errorf("got %d connections, want at most 4", n)
	}
	if p50, p99 := r.quantile(0.5), r.quantile(0.99); p50 <= 0 || p50 > p99 {
		t.Errorf("got p50 %v and p99 %v, want 0 < p50 <= p99", p50, p99)
	}
}

func TestLoadVariesItsRequests(t *testing.T) {
	var asked sync.Map
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.RawQuery) != len("000") {
			t.Errorf("got the query %q", r.URL.RawQuery)
		}
		asked.Store(r.URL.RawQuery, true)
		_, _ = io.WriteString(w, "ok")
	}))
	defer s.Close()
	l := load100(s)
	l.request, l.varied = []byte("GET /?000 HTTP/1.1\r\nHost: localhost\r\n\r\n"), []byte("000")
	if r, err := l.run(t.Context()); err != nil || len(r.latencies) != 100 {
		t.Fatalf("got %d answers, %v", len(r.latencies), err)
	}
	n := 0
	asked.Range(func(any, any) bool { n++; return true })
	if _, last := asked.Load("000"); n != 100 || !last {
		t.Errorf("got %d requests that differ, want 100", n)
	}
}

func TestLoadCountsAnswersThatAreNotTheExpectedOnes(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"status":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "k", http.StatusBadGateway) },
		"length":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "not ok") },
		"connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(handler)
			defer s.Close()
			l := load100(s)
			r, err := l.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.errors != 100 || len(r.latencies) != 0 || r.lastError == nil {
				t.Errorf("got %d errors (%v) and %d answers, want 100 and 0", r.errors, r.lastError, len(r.latencies))
			}
		})
	}
}

func TestLoadEndsThoughNobodyListens(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	l := load100(s)
	r, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.errors != 100 {
		t.Errorf("got %d errors, want 100", r.errors)
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
