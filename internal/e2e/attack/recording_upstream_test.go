package attack

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// seenRequest is a request as it reached an upstream.
type seenRequest struct {
	line    string // method and target
	host    string
	header  http.Header
	length  int64
	body    string
	trailer http.Header
}

// witness is an upstream that answers everything and remembers what it was asked.
type witness struct {
	*harness.RawUpstream
	mu       sync.Mutex
	requests []seenRequest
}

func startWitness(t testing.TB) *witness {
	t.Helper()
	w := new(witness)
	w.RawUpstream = harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		body, err := io.ReadAll(q.Body)
		seen := seenRequest{q.Method + " " + q.RequestURI, q.Host, q.Header, q.ContentLength, string(body), q.Trailer}
		w.mu.Lock()
		w.requests = append(w.requests, seen)
		w.mu.Unlock()
		if err != nil {
			return false
		}
		if q.URL.Path == "/last" { // of its connection, so that none is kept for later
			return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false)(c, q, nil)
		}
		return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)(c, q, nil)
	})
	return w
}

// take returns the requests that have come since the last time.
func (w *witness) take() []seenRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.requests
	w.requests = nil
	return taken
}

func lines(requests []seenRequest) []string {
	var lines []string
	for _, r := range requests {
		lines = append(lines, r.line)
	}
	return lines
}
