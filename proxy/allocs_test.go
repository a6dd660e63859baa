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

// frugalUpstream answers every request with 1 KB of JSON, and allocates nothing for it.
func zeroAllocUpstream(t testing.TB) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 1008\r\n\r\n" +
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
						_, _ = c.Write(answer)
						n = 0
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// frugalRequest has s listen and returns what sends it one request after another on a connection, and allocates nothing
// for it.
func zeroAllocClient(t testing.TB, s *Server, way string) func() {
	l, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limits := routes.Limits{HeaderBytes: 64 << 10, BodyBytes: 32 << 20, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute}
	server, served := NewHTTPServer(s, &routes.Config{Limits: limits, Server: way}, slog.New(slog.DiscardHandler)), make(chan struct{})
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

// What a request that finds its upstream well may allocate, with every default on, from the client's bytes to the
// response's: by the way of its own, and by net/http's.
func TestRequestAllocatesLittle(t *testing.T) {
	for _, c := range []struct {
		way  string
		most float64
	}{{"auto", 40}, {"net_http", 91}} {
		ask := zeroAllocClient(t, newTestServer(t, zeroAllocUpstream(t), c.way, nil), c.way)
		if n := testing.AllocsPerRun(1000, ask); n > c.most {
			t.Errorf("%s: %v allocations a request, at most it should be %v", c.way, n, c.most)
		} else {
			t.Logf("%s: %v", c.way, n)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, way := range []string{"auto", "net_http"} {
		b.Run(way, func(b *testing.B) {
			ask := zeroAllocClient(b, newTestServer(b, zeroAllocUpstream(b), way, nil), way)
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}
