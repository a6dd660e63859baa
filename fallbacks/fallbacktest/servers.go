package fallbacktest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// RawServer is a TCP server that sends fixed bytes as its response to the first request of each
// connection.
type RawServer struct {
	URL string
	// Received has the bytes of each request, in order of arrival.
	Received chan string
	// Requests counts the requests that were read completely.
	Requests atomic.Int64
}

// AfterResponse is what a RawServer does with the connection after its response.
type AfterResponse int

// The values of AfterResponse.
const (
	Close AfterResponse = iota
	Hang                // keep the connection open until the test ends
)

// ServeRaw starts a RawServer that is closed when the test ends.
func ServeRaw(t testing.TB, response string, after AfterResponse) *RawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &RawServer{URL: "http://" + l.Addr().String(), Received: make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(ctx, c, response, after)
		}
	}()
	return s
}

func (s *RawServer) serve(ctx context.Context, c net.Conn, response string, after AfterResponse) {
	defer func() { _ = c.Close() }()
	var head strings.Builder
	r := bufio.NewReader(c)
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		head.WriteString(line)
		if _, value, ok := strings.Cut(line, "Content-Length: "); ok {
			for _, d := range strings.TrimSpace(value) {
				length = length*10 + int(d-'0')
			}
		}
		if line == "\r\n" {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return
	}
	s.Requests.Add(1)
	s.Received <- head.String() + string(body)
	_, _ = io.WriteString(c, response)
	if after == Hang {
		<-ctx.Done()
	}
}

// ServeH2C starts a server of HTTP/2 without TLS that is closed when the test ends. It returns its
// h2c URL.
func ServeH2C(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return "h2c" + strings.TrimPrefix(s.URL, "http")
}

// Server is an HTTP server that counts its requests and connections.
type Server struct {
	URL string
	// Opened counts connections. Closed gets an element for each connection that is closed.
	Opened atomic.Int64
	Closed chan struct{}
	// Requests counts requests.
	Requests atomic.Int64
	// Failing makes the server respond with status 503.
	Failing atomic.Bool
}

// Serve starts a Server that is closed when the test ends.
func Serve(t testing.TB, h http.HandlerFunc) *Server {
	t.Helper()
	server := &Server{Closed: make(chan struct{}, 100)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.Requests.Add(1)
		if server.Failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			server.Opened.Add(1)
		case http.StateClosed:
			server.Closed <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	server.URL = s.URL
	return server
}

// AwaitClosed waits until a connection is closed.
func (s *Server) AwaitClosed(t testing.TB) {
	t.Helper()
	select {
	case <-s.Closed:
	case <-time.After(10 * time.Second):
		t.Fatal("no connection was closed")
	}
}
