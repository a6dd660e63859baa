package httpserver

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// repeatConn is a connection on which each read returns the same request.
type repeatConn struct {
	net.Conn
	head string
}

func (c *repeatConn) Read(p []byte) (int, error)       { return copy(p, c.head), nil }
func (c *repeatConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *repeatConn) SetWriteDeadline(time.Time) error { return nil }

// discard is a ResponseWriter that ignores what is written.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkConn measures what Conn and handler add to a request: the calls that net/http makes for one.
func BenchmarkConn(b *testing.B) {
	c := &Conn{Conn: &repeatConn{head: "GET /rag/x?q=1 HTTP/1.1\r\nHost: rag.example:8080\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"}}
	ctx := connContext(b.Context(), c, 2*time.Minute, nil)
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/rag/x?q=1", nil)
	w, buffer, response := &discard{http.Header{}}, make([]byte, 4<<10), []byte("HTTP/1.1 200 OK\r\n\r\n")
	h := handler{http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Read(buffer)
		connStateChanged(c, http.StateActive)
		h.ServeHTTP(w, r)
		_, _ = c.Write(response)
		_ = c.SetWriteDeadline(time.Time{})
		connStateChanged(c, http.StateIdle)
	}
}
