package clients

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// streamVariable makes the test binary run as a streamUpstream. Its value is not used.
const streamVariable = "CBPROXY_E2E_STREAM"

// streamUpstream is an upstream process that begins streams and never ends them. /sse/query has server-sent events,
// /ndjson/query has lines of JSON.
type streamUpstream struct{ *harness.Upstream }

func startStreamUpstream(t *testing.T) streamUpstream {
	t.Helper()
	u := streamUpstream{&harness.Upstream{T: t, Address: harness.FreeAddress(t), Env: []string{streamVariable + "=yes"}}}
	u.Start()
	t.Cleanup(u.Kill)
	return u
}

// awaitStream waits until the upstream has sent the beginning of a stream.
func (u streamUpstream) awaitStream() {
	u.T.Helper()
	harness.Eventually(u.T, "a stream has begun", func() bool {
		res, err := http.Get(u.URL() + "/begun")
		return harness.ReadResponse(u.T, res, err).Body != "0"
	})
}

// beginnings are streams that end within their third event. Both have the events {"n": 1} and {"n": 2} before.
var beginnings = map[string]string{
	"text/event-stream":    ": comment\n\ndata: {\"n\": 1}\n\nevent: x\r\ndata: {\"n\":\r\ndata: 2}\r\n\r\ndata: {\"n\": 3}\n",
	"application/x-ndjson": "{\"n\": 1}\n{\"n\": 2}\r\n{\"n\":",
}

// serveStreams runs a streamUpstream. It returns only on an error.
func serveStreams(address string) error {
	var begun atomic.Int64
	begin := func(contentType string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", contentType)
			fmt.Fprint(w, beginnings[contentType])
			_ = http.NewResponseController(w).Flush()
			begun.Add(1)
			<-r.Context().Done()
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/sse/query", begin("text/event-stream"))
	mux.HandleFunc("/ndjson/query", begin("application/x-ndjson"))
	mux.HandleFunc("/begun", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, begun.Load()) })
	return http.ListenAndServe(address, mux)
}

// crawl returns a handler that writes the header section of a response and then part, again and again.
func crawl(header, part string) harness.RawHandler {
	return func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n")
		for ; err == nil; time.Sleep(50 * time.Millisecond) {
			_, err = io.WriteString(c, part)
		}
		return false
	}
}

// cut returns a handler that ends the connection within a response.
func cut(header, body string) harness.RawHandler {
	return harness.RespondWith("HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n"+body, false)
}

// chunk returns a chunk of a response with Transfer-Encoding: chunked.
func chunk(data string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(data), data) }

// longBody is larger than response_buffer, so that the client gets its beginning before its end has arrived.
var longBody = strings.Repeat("x", 200_000)
