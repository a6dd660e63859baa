//go:build !race

package proxy

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// frugalUpstream answers every request with 1 KB of JSON, and allocates nothing for it.
func frugalUpstream(t testing.TB) (url string) {
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

// What a request that finds its upstream well may allocate from the moment when net/http has read it, with every
// default on. Most of it is net/http's: ReverseProxy's copy of the request, and the response.
func TestRequestAllocatesLittle(t *testing.T) {
	for _, c := range []struct {
		transport string
		most      float64
	}{{"auto", 48}, {"net_http", 75}} {
		s := serverTo(t, frugalUpstream(t), c.transport, nil)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/rag/x?q=1", nil)
		r.Header["User-Agent"], r.Header["Accept"] = []string{"bench"}, []string{"*/*"}
		w := &discard{http.Header{}}
		n := testing.AllocsPerRun(1000, func() {
			clear(w.header)
			s.ServeHTTP(w, r)
		})
		if t.Logf("%s: %v", c.transport, n); n > c.most {
			t.Errorf("%s: %v allocations a request, at most it should be %v", c.transport, n, c.most)
		}
	}
}
