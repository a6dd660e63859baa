//go:build linux && !race

package proxy

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/httpserver"
	"cbproxy/routes"
)

// zeroAllocUpstream answers each request with 1 KB of JSON and allocates nothing per request.
func zeroAllocUpstream(t testing.TB) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 1008\r\n\r\n" +
		`{"d":"` + strings.Repeat("x", 1000) + `"}`)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buffer, n := make([]byte, 4<<10), 0
				for {
					m, err := c.Read(buffer[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buffer[:n], []byte("\r\n\r\n")) {
						_, _ = c.Write(response)
						n = 0
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// zeroAllocClient starts a listener for s and returns a function that sends a request to it and reads the response. The function
// uses one connection for all calls and allocates nothing.
func zeroAllocClient(t testing.TB, s *Server, mode string) func() {
	l, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limits := routes.Limits{HeaderBytes: 64 << 10, BodyBytes: 32 << 20, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute}
	server, served := NewHTTPServer(s, "", &routes.Config{Limits: limits, Server: mode}, slog.New(slog.DiscardHandler)), make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	request := []byte("GET /rag/x?q=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	buffer := make([]byte, 8<<10)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; {
			m, err := c.Read(buffer[n:])
			if n += m; err != nil || !bytes.HasPrefix(buffer[:n], []byte("HTTP/1.1 200 OK\r\n")) {
				t.Fatalf("%q, %v", buffer[:n], err)
			}
			if bytes.HasSuffix(buffer[:n], []byte("xx\"}")) {
				return
			}
		}
	}
}

// TestRequestAllocatesLittle limits the allocations of a request that succeeds, with the default configuration, from reading the
// request to writing the response: on the fast path, and with net/http only.
func TestRequestAllocatesLittle(t *testing.T) {
	for _, c := range []struct {
		mode string
		most float64
	}{{"auto", 40}, {"net_http", 91}} {
		send := zeroAllocClient(t, newTestServer(t, zeroAllocUpstream(t), c.mode, nil), c.mode)
		if n := testing.AllocsPerRun(1000, send); n > c.most {
			t.Errorf("%s: %v allocations per request, want at most %v", c.mode, n, c.most)
		} else {
			t.Logf("%s: %v allocations per request", c.mode, n)
		}
	}
}

// TestAutoLimitAllocatesNothing checks that a request with max_in_flight: auto allocates as much as one without a limit.
func TestAutoLimitAllocatesNothing(t *testing.T) {
	allocations := func(c routes.Route) float64 {
		s := newTestServer(t, zeroAllocUpstream(t), "auto", nil, func(r *routes.Route) { r.MaxInFlight = c.MaxInFlight })
		return testing.AllocsPerRun(1000, zeroAllocClient(t, s, "auto"))
	}
	var without, with routes.Route
	with.MaxInFlight.Auto = true
	if a, b := allocations(without), allocations(with); b > a {
		t.Errorf("%v allocations per request with auto, %v without", b, a)
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, mode := range []string{"auto", "net_http"} {
		b.Run(mode, func(b *testing.B) {
			send := zeroAllocClient(b, newTestServer(b, zeroAllocUpstream(b), mode, nil), mode)
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}
