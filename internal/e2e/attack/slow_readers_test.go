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

// Clients that take a little of a large response and then no more are let go when the
// route's timeout has passed, and the proxy holds no more of the responses than a buffer
// each.
func TestClientsThatStopReadingAreDisconnected(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		if q.URL.Path == "/fine" {
			return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)(c, q, nil)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
		_, err := io.CopyN(c, zeroes{}, 64<<20)
		return err == nil
	})
	p := harness.StartProxy(t, harness.Options{Config: oneMistake(u.URL(), ", timeout: 1")})
	checkServes(p)
	goroutines, heap := p.Metric("go_goroutines"), p.Metric("go_memstats_heap_inuse_bytes")
	const each = 15
	for range each {
		c, r := p.Dial()
		defer c.Close()
		_, _ = io.WriteString(c, "GET /svc/large HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.CopyN(io.Discard, r, 1000)
		h2 := dialHTTP2(p)
		h2.begin(1, h2.request("GET", "/svc/large"), true) // whose window stays as it is
	}
	harness.Eventually(t, "all ask the upstream", func() bool { return len(u.RequestLines()) == 2*each+1 })
	if grown := p.Metric("go_memstats_heap_inuse_bytes") - heap; grown > 64<<20 {
		t.Errorf("%d stalled responses take %v bytes", 2*each, grown)
	}
	checkUnharmed(p)
	harness.Eventually(t, "no goroutine is left over", func() bool { return p.Metric("go_goroutines") <= goroutines+2*each+20 }) // the HTTP/2 connections are still open
	if n := p.RequestCounts("svc")["cancelled"]; n != 2*each {
		t.Errorf("%v cancelled", n)
	}
}

type zeroes struct{}

// A client that asks and asks and reads no answer fills the socket's buffers; then it is let
// go, in either version.
func TestClientsThatReadNoResponsesAreDisconnected(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: "limits: {idle_timeout: 1}\n" + oneMistake(u.URL(), "")})
	for name, begin := range map[string]func() (c net.Conn, ask string){
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
			c, ask := begin()
			defer c.Close()
			for {
				if _, err := io.WriteString(c, ask); isTimeout(err) {
					t.Fatal("the connection goes on")
				} else if err != nil {
					return
				}
			}
		})
	}
	t.Cleanup(func() { checkUnharmed(p) })
}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }
