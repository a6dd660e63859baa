package httpserver_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"cbproxy/internal/httpserver"
)

// serveUntilShutdown starts a server. shutdown begins its shutdown and returns when it accepts no more connections.
func serveUntilShutdown(t *testing.T, o httpserver.Options) (address string, shutdown func()) {
	t.Helper()
	l, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = slog.New(slog.DiscardHandler)
	o.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	s := httpserver.New(o)
	served, ended := make(chan struct{}), make(chan error, 1)
	go func() { defer close(served); _ = s.Serve(l) }()
	c, r := dial(t, l.Addr().String())
	_, _ = io.WriteString(c, getRequest)
	nextResponse(t, r)
	return l.Addr().String(), func() {
		s.StopAccepting()
		go func() { ended <- s.Shutdown(context.Background()) }()
		t.Cleanup(func() {
			if err := <-ended; err != nil {
				t.Error(err)
			}
			<-served
		})
	}
}

// TestShutdownServesRequestOfOpenConnection checks that a request whose first part has arrived before the shutdown is served by
// net/http's server as well: no part of the server may be closed before the connections of the others are.
func TestShutdownServesRequestOfOpenConnection(t *testing.T) {
	eachPath(t, func(t *testing.T, o httpserver.Options) {
		address, shutdown := serveUntilShutdown(t, o)
		c, r := dial(t, address)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n")
		shutdown()
		_, _ = io.WriteString(c, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
		res := nextResponse(t, r)
		if body, _ := io.ReadAll(res.Body); string(body) != "hello" {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	})
}

// TestStopAcceptingServesOpenedConnections checks that connections which clients have opened before the listener is closed are
// not reset.
func TestStopAcceptingServesOpenedConnections(t *testing.T) {
	eachPath(t, func(t *testing.T, o httpserver.Options) {
		address, shutdown := serveUntilShutdown(t, o)
		const clients = 100
		responses := make([]func(), clients)
		for i := range clients {
			c, r := dial(t, address)
			_, _ = io.WriteString(c, getRequest)
			responses[i] = func() {
				if res := nextResponse(t, r); res.StatusCode != http.StatusOK {
					t.Errorf("status %d", res.StatusCode)
				}
			}
		}
		shutdown()
		for _, read := range responses {
			read()
		}
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Error("the listener is still open")
		}
	})
}
