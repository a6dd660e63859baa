package attack

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// corpusFile contains malicious requests, one JSON object per line, whose key raw has the bytes in base64. If the file
// does not exist, readCorpus returns some requests of its kinds.
var corpusFile = filepath.Join(harness.Repository, "../shared/smuggling-corpus.jsonl")

func readCorpus(t *testing.T) (requests [][]byte) {
	t.Helper()
	file, err := os.Open(corpusFile)
	if err != nil {
		for _, raw := range []string{
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0_2e\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\x00\r\n\r\n",
			"GET / HTTP/1.1\nHost: a\rX: b\n\n",
			"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		} {
			requests = append(requests, []byte(raw))
		}
		return requests
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var entry struct{ Raw string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(entry.Raw)
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, raw)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return requests
}

// TestMalformedRequestsDoNotHangOrOpenBreaker checks that no request of the corpus hangs, opens the breaker, or is read
// as two by the upstream: the upstream sees no more requests than the proxy has sent.
func TestMalformedRequestsDoNotHangOrOpenBreaker(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	})}
	go func() { _ = server.Serve(upstream) }()
	defer server.Close()
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /, upstream: 'http://" + upstream.Addr().String() + "', timeout: 2, breaker: {fail_max: 1}}}\n"})

	requests := make(chan []byte)
	var senders sync.WaitGroup
	var hung atomic.Int64
	for range 32 {
		senders.Go(func() {
			for raw := range requests {
				c, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
				if err != nil {
					t.Error(err)
					continue
				}
				_ = c.SetDeadline(time.Now().Add(harness.EventTimeout))
				_, _ = c.Write(raw) // the proxy may close the connection early
				_ = c.(*net.TCPConn).CloseWrite()
				if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
					hung.Add(1)
				}
				_ = c.Close()
			}
		})
	}
	for _, raw := range readCorpus(t) {
		requests <- raw
	}
	close(requests)
	senders.Wait()
	if hung.Load() > 0 {
		t.Errorf("%d requests hung", hung.Load())
	}
	harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if attempts := p.Metric(`cbproxy_upstream_attempts_total{service="svc"}`); float64(seen.Load()) > attempts {
		t.Errorf("the upstream saw %d requests, the proxy sent %v", seen.Load(), attempts)
	}
	if s := p.Health().Services["svc"]; s.State != "closed" {
		t.Errorf("malformed requests opened the breaker: %+v", s)
	}
	if r := p.Get("/ok"); r.Status != 200 {
		t.Errorf("a normal request after the corpus: %+v", r)
	}
}
