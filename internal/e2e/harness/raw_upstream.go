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

// RawUpstream is an upstream that sends raw responses given by a test, and records each request line.
type RawUpstream struct {
	Address string

	mu    sync.Mutex
	lines []string
}

// StartRawUpstream serves each request head of each connection by answer, which closes
// the connection by returning false. The request's body is left on r.
func StartRawUpstream(t testing.TB, answer func(c net.Conn, q *http.Request, r *bufio.Reader) (keep bool)) *RawUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &RawUpstream{Address: l.Addr().String()}
	var connections sync.WaitGroup
	over := make(chan struct{})
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
					case <-over:
						_ = c.Close()
					case <-served:
					}
				}()
				u.serve(c, answer)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(over)
		connections.Wait()
	})
	return u
}

func (u *RawUpstream) serve(c net.Conn, answer func(net.Conn, *http.Request, *bufio.Reader) bool) {
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		// The request line is taken as it is on the wire: net/http would decode it.
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
		if err != nil || !answer(c, q, r) {
			return
		}
		_, _ = io.Copy(io.Discard, q.Body)
	}
}

// URL returns the base URL of the upstream.
func (u *RawUpstream) URL() string { return "http://" + u.Address }

// RequestLines returns the request lines so far.
func (u *RawUpstream) RequestLines() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.lines)
}

// LastRequestLine returns the latest request line.
func (u *RawUpstream) LastRequestLine() string {
	lines := u.RequestLines()
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// RespondWith returns a handler that always writes the same bytes.
func RespondWith(answer string, keep bool) func(net.Conn, *http.Request, *bufio.Reader) bool {
	return func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
		_, err := io.WriteString(c, answer)
		return err == nil && keep
	}
}
