package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A response to HTTP/1.0 may end with the close of the connection. A truncated one ends with a reset, so that the client can tell.
func TestTruncatedHTTP10ResponseEndsWithAReset(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
	long := "first" + strings.Repeat("x", 64<<10) // more than is buffered, so that the beginning is sent at once
	for name, c := range map[string]struct {
		first, rest string // rest is sent once the client has received something
		keys        string
		truncated   bool
	}{
		"chunked, truncated":        {first: chunked, truncated: true},
		"chunked, malformed":        {first: chunked, rest: "no chunk\r\n", truncated: true},
		"chunked, idle":             {first: chunked, rest: "idle", keys: "idle_timeout: 0.3", truncated: true},
		"Content-Length, truncated": {first: "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + long, truncated: true},
		"chunked, complete":         {first: chunked, rest: "0\r\n\r\n"},
		"until close":               {first: "HTTP/1.0 200 OK\r\n\r\nfirst"},
		"Content-Length, complete":  {first: "HTTP/1.1 200 OK\r\nContent-Length: 65545\r\n\r\n" + long, rest: "last"},
	} {
		t.Run(name, func(t *testing.T) {
			next, end := make(chan struct{}), make(chan struct{})
			defer close(end)
			url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(conn, c.first)
				<-next
				if c.rest == "idle" {
					<-end
				}
				_, _ = io.WriteString(conn, c.rest)
			})
			_, address, _ := start(t, routeConfig(url, "response_buffer: 1", c.keys))
			for _, version := range []string{"1.0", "1.0\r\nConnection: keep-alive"} {
				got, err := readToEnd(t, address, version, next)
				if reset := errors.Is(err, syscall.ECONNRESET); reset != c.truncated || !c.truncated && err != nil || !strings.Contains(got, "first") {
					t.Errorf("HTTP/%q: %.300q, %v; want a reset: %t", version, got, err, c.truncated)
				}
				if strings.Contains(c.keys, "idle") {
					break // the upstream's connection stays idle until the subtest ends
				}
			}
		})
	}
}

// readToEnd sends a request in an HTTP version and returns the response and the error that it ends with. It sends to next when it
// has read the first line.
func readToEnd(t *testing.T, address, version string, next chan struct{}) (string, error) {
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

// A response that is truncated because the proxy closes ends with a reset, too.
func TestServerCloseResetsHTTP10Responses(t *testing.T) {
	next := make(chan struct{})
	url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
			_, _ = io.Copy(io.Discard, r) // until the proxy closes the connection
		}
	})
	p := startProxy(t, routeConfig(url), proxyOptions{})
	go func() { <-next; _ = p.http.Close() }()
	if got, err := readToEnd(t, p.address, "1.0", next); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%q, %v; want a reset", got, err)
	}
}
