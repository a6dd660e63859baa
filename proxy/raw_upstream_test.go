package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// closedPort returns the URL of an address without a listener. A port that was just released would not do, because another
// test's listener may get it.
func closedPort(testing.TB) string { return "http://127.0.0.1:1" }

// rawUpstream calls handle for each connection and closes the connection when handle returns. n is the connection's number.
func rawUpstream(t testing.TB, handle func(n int, c net.Conn, r *bufio.Reader)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				handle(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

// respondWith returns a function that starts an upstream. It reads a request with its body, writes text byte for byte and closes
// the connection.
func respondWith(text string) func(testing.TB) string {
	return func(t testing.TB) string {
		return rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if q, err := http.ReadRequest(r); err == nil {
				_, _ = io.Copy(io.Discard, q.Body)
				_, _ = io.WriteString(c, text)
			}
		})
	}
}

// cannedUpstream reads the header section of a request on each connection, writes text and closes the connection. It uses TLS
// if secured is not nil.
func cannedUpstream(t testing.TB, secured *tls.Config, text string) (url string) {
	t.Helper()
	url = rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if secured != nil {
			over := tls.Server(rereadConn{c, r}, secured)
			c, r = over, bufio.NewReader(over)
		}
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		if over, ok := c.(*tls.Conn); ok {
			_ = over.CloseWrite()
		}
	})
	if secured != nil {
		url = strings.Replace(url, "http:", "https:", 1)
	}
	return url
}

// rereadConn is a connection that is read through r, which may have buffered data.
type rereadConn struct {
	net.Conn
	r io.Reader
}

func (c rereadConn) Read(p []byte) (int, error) { return c.r.Read(p) }
