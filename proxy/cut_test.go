package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/proxy"
)

// A response that may end with its connection is reset where it is cut: a close would be its end.
func TestTruncatedHTTP10ResponseEndsWithAReset(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
	long := "first" + strings.Repeat("x", 64<<10) // enough that some of it goes out at once
	for name, c := range map[string]struct {
		says, then string
		keys       string
		cut        bool
	}{
		"a stream that is cut":                   {says: chunked, cut: true},
		"a stream that is malformed":             {says: chunked, then: "nonsense\r\n", cut: true},
		"a stream that falls silent":             {says: chunked, then: "silence", keys: "idle_timeout: 0.3", cut: true},
		"a length that is not reached":           {says: "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + long, cut: true},
		"a stream that ends":                     {says: chunked, then: "0\r\n\r\n"},
		"a stream that ends with its connection": {says: "HTTP/1.0 200 OK\r\n\r\nfirst"},
		"a length that is reached":               {says: "HTTP/1.1 200 OK\r\nContent-Length: 65545\r\n\r\n" + long, then: "last"},
	} {
		t.Run(name, func(t *testing.T) {
			next, over := make(chan struct{}), make(chan struct{})
			defer close(over)
			url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(conn, c.says)
				<-next
				if c.then == "silence" {
					<-over
				}
				_, _ = io.WriteString(conn, c.then)
			})
			_, address, _ := start(t, routeConfig(url, "response_buffer: 1", c.keys))
			for _, version := range []string{"1.0", "1.0\r\nConnection: keep-alive"} {
				got, err := readUntilCut(t, address, version, next)
				if cut := errors.Is(err, syscall.ECONNRESET); cut != c.cut || !c.cut && err != nil || !strings.Contains(got, "first") {
					t.Errorf("HTTP/%q: %.300q, %v; want cut %t", version, got, err, c.cut)
				}
				if strings.Contains(c.keys, "idle") {
					break // over ends it
				}
			}
		})
	}
}

// readCut asks by a version, and returns what is answered and how that ends. It sends to next when something has come.
func readUntilCut(t *testing.T, address, version string, next chan struct{}) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET /svc HTTP/"+version+"\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	head, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	next <- struct{}{}
	if strings.Contains(version, "keep-alive") {
		res, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)), nil)
		if err != nil {
			return head, err
		}
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	rest, err := io.ReadAll(r)
	return head + string(rest), err
}

// So is one that is cut because the proxy ends.
func TestServerCloseResetsHTTP10Responses(t *testing.T) {
	next := make(chan struct{})
	url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
			_, _ = io.Copy(io.Discard, r) // until the proxy ends
		}
	})
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	server := proxy.New(proxy.Config{Bus: new(events.Bus), Observers: newRecorder(), Logger: logger})
	defer server.Close()
	c := parse(t, routeConfig(url))
	if err := server.Apply(c); err != nil {
		t.Fatal(err)
	}
	c.Server = httpMode
	s := proxy.NewHTTPServer(server, c, logger)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listener) }()
	defer func() { <-served }()
	go func() { <-next; _ = s.Close() }()
	if got, err := readUntilCut(t, listener.Addr().String(), "1.0", next); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v; want a reset", got, err)
	}
}
