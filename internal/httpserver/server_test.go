package httpserver_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/httpserver"
)

// eachPath runs a test twice: with the fast path enabled and with net/http only.
func eachPath(t *testing.T, test func(t *testing.T, options httpserver.Options)) {
	for name, netHTTPOnly := range map[string]bool{"auto": false, "net_http": true} {
		t.Run(name, func(t *testing.T) {
			test(t, httpserver.Options{
				HeaderBytes: 64 << 10, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, NetHTTPOnly: netHTTPOnly,
			})
		})
	}
}

// startServer starts a server that runs until the end of the test, and returns its address.
func startServer(t *testing.T, h http.HandlerFunc, o httpserver.Options) string {
	t.Helper()
	l, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Handler, o.Logger = h, slog.New(slog.DiscardHandler)
	s := httpserver.New(o)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return l.Addr().String()
}

// dial opens a connection on which a test writes raw requests.
func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

// nextResponse reads a final response and its body.
func nextResponse(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body = io.NopCloser(strings.NewReader(string(body)))
		return res
	}
}
