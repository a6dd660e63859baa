package harness

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// RawUpstream is an upstream in the test process whose responses are the bytes that a handler writes. It records each
// request line as received.
type RawUpstream struct {
	Address string

	mu    sync.Mutex
	lines []string // guarded by mu
}

// RawHandler writes the response to a request whose head has been read; r has the rest of the connection, beginning with
// the body. The connection is kept open if it returns true.
type RawHandler func(c net.Conn, q *http.Request, r *bufio.Reader) (keepAlive bool)

// StartRawUpstream starts an upstream that calls handler for each request, one at a time per connection. It stops at the
// end of the test.
func StartRawUpstream(t testing.TB, handler RawHandler) *RawUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &RawUpstream{Address: l.Addr().String()}
	var connections sync.WaitGroup
	stop := make(chan struct{})
	connections.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer c.Close()
				served := make(chan struct{})
				defer close(served)
				go func() {
					select {
					case <-stop:
						_ = c.Close()
					case <-served:
					}
				}()
				u.serve(c, handler)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(stop)
		connections.Wait()
	})
	return u
}

// serve serves the requests of one connection.
func (u *RawUpstream) serve(c net.Conn, handler RawHandler) {
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		// The request line is recorded as received, because net/http decodes it.
		peeked, err := r.Peek(1)
		for n := 2; err == nil && !slices.Contains(peeked, '\n'); n++ {
			peeked, err = r.Peek(n)
		}
		if err != nil {
			return
		}
		line, _, _ := strings.Cut(string(peeked), "\r\n")
		u.mu.Lock()
		u.lines = append(u.lines, line)
		u.mu.Unlock()
		q, err := http.ReadRequest(r)
		if err != nil || !handler(c, q, r) {
			return
		}
		_, _ = io.Copy(io.Discard, q.Body)
	}
}

// URL returns the base URL of the upstream.
func (u *RawUpstream) URL() string { return "http://" + u.Address }

// RequestLines returns the request lines received so far.
func (u *RawUpstream) RequestLines() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.lines)
}

// LastRequestLine returns the latest request line, or "" if there is none.
func (u *RawUpstream) LastRequestLine() string {
	lines := u.RequestLines()
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// RespondWith returns a handler that always writes the same response.
func RespondWith(response string, keepAlive bool) RawHandler {
	return func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
		_, err := io.WriteString(c, response)
		return err == nil && keepAlive
	}
}
