package e2e

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

// wireUpstream is an upstream that sends raw responses given by a test, and records each request line.
type wireUpstream struct {
	address string

	mu    sync.Mutex
	lines []string
}

// startWireUpstream serves each request head of each connection by answer, which closes
// the connection by returning false. The request's body is left on r.
func startWireUpstream(t testing.TB, answer func(c net.Conn, q *http.Request, r *bufio.Reader) (keep bool)) *wireUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &wireUpstream{address: l.Addr().String()}
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

func (u *wireUpstream) serve(c net.Conn, answer func(net.Conn, *http.Request, *bufio.Reader) bool) {
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

func (u *wireUpstream) url() string { return "http://" + u.address }

// seen returns the request lines so far.
func (u *wireUpstream) seen() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.lines)
}

// last returns the latest request line.
func (u *wireUpstream) last() string {
	lines := u.seen()
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

// say returns a handler that always writes the same bytes.
func say(answer string, keep bool) func(net.Conn, *http.Request, *bufio.Reader) bool {
	return func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
		_, err := io.WriteString(c, answer)
		return err == nil && keep
	}
}
