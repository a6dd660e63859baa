package attack

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestClientsThatStopReadingAreDisconnected checks that clients that stop reading a large response are disconnected
// after the route's timeout, and that the proxy buffers only a small part of each response.
func TestClientsThatStopReadingAreDisconnected(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		if q.URL.Path == "/fine" {
			return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)(c, q, nil)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
		_, err := io.CopyN(c, zeroReader{}, 64<<20)
		return err == nil
	})
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 1")})
	checkNormalRequest(p)
	goroutines, heap := p.Metric("go_goroutines"), p.Metric("go_memstats_heap_inuse_bytes")
	const clients = 15 // of each HTTP version
	for range clients {
		c, r := p.Dial()
		defer c.Close()
		_, _ = io.WriteString(c, "GET /svc/large HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.CopyN(io.Discard, r, 1000)
		h2 := dialHTTP2(p)
		h2.sendHeaders(1, h2.encodeRequest("GET", "/svc/large"), true) // no window update follows
	}
	harness.Eventually(t, "all requests reach the upstream", func() bool { return len(u.RequestLines()) == 2*clients+1 })
	if grown := p.Metric("go_memstats_heap_inuse_bytes") - heap; grown > 64<<20 {
		t.Errorf("%d stalled responses use %v bytes of heap", 2*clients, grown)
	}
	checkHealthy(p)
	// The HTTP/2 connections are still open.
	harness.Eventually(t, "the goroutines have ended", func() bool { return p.Metric("go_goroutines") <= goroutines+2*clients+20 })
	if n := p.RequestCounts("svc")["cancelled"]; n != 2*clients {
		t.Errorf("%v requests are counted as cancelled", n)
	}
}

// zeroReader is an endless stream of zero bytes.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestClientsThatReadNoResponsesAreDisconnected checks that a client that sends requests, but reads no response, is
// disconnected once the socket buffers are full.
func TestClientsThatReadNoResponsesAreDisconnected(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "limits: {idle_timeout: 1}\n" + strictBreakerConfig(u.URL(), "")})
	for name, dial := range map[string]func() (c net.Conn, requests string){
		"HTTP/1.1": func() (net.Conn, string) {
			c, _ := p.Dial()
			return c, strings.Repeat("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 100)
		},
		"HTTP/2": func() (net.Conn, string) {
			c := dialHTTP2(p)
			return c.conn, strings.Repeat("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", 100) // PING
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, requests := dial()
			defer c.Close()
			for {
				if _, err := io.WriteString(c, requests); isTimeout(err) {
					t.Fatal("the connection is still open")
				} else if err != nil {
					return
				}
			}
		})
	}
	t.Cleanup(func() { checkHealthy(p) })
}
