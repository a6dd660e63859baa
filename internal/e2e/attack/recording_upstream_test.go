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

// seenRequest is a request that an upstream received.
type seenRequest struct {
	line    string // method and target
	host    string
	header  http.Header
	length  int64
	body    string
	trailer http.Header
}

// recordingUpstream is an upstream that responds to each request with 200 and records it.
type recordingUpstream struct {
	*harness.RawUpstream
	mu       sync.Mutex
	requests []seenRequest // guarded by mu
}

func startRecordingUpstream(t testing.TB) *recordingUpstream {
	t.Helper()
	u := new(recordingUpstream)
	u.RawUpstream = harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		body, err := io.ReadAll(q.Body)
		seen := seenRequest{q.Method + " " + q.RequestURI, q.Host, q.Header, q.ContentLength, string(body), q.Trailer}
		u.mu.Lock()
		u.requests = append(u.requests, seen)
		u.mu.Unlock()
		if err != nil {
			return false
		}
		if q.URL.Path == "/last" { // the proxy keeps no idle connection after it
			return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false)(c, q, nil)
		}
		return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)(c, q, nil)
	})
	return u
}

// takeRequests returns the requests since its last call.
func (u *recordingUpstream) takeRequests() []seenRequest {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.requests
	u.requests = nil
	return taken
}

func requestLines(requests []seenRequest) []string {
	var lines []string
	for _, r := range requests {
		lines = append(lines, r.line)
	}
	return lines
}
