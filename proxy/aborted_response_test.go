package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"cbproxy/internal/events"
)

// If an upstream aborts its response before any of it was sent to the client, the fallback responds. If the header section was
// already sent, the client's connection or stream is aborted. The client gets a status in both cases.
func TestAbortedResponseIsReplacedOrCut(t *testing.T) {
	http1Upstream := func(head string) func(testing.TB) (string, string) {
		return func(t testing.TB) (string, string) {
			return rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.WriteString(c, head)
				}
			}), "tls: {}"
		}
	}
	http2Upstream := func(fields ...string) func(testing.TB) (string, string) {
		return func(t testing.TB) (string, string) {
			return frameUpstream(t, false, func(_ int, f *frameConn) {
				f.eachStream(func(stream uint32, _ bool) {
					f.writeHeaders(stream, false, fields...)
					_ = f.WriteRSTStream(stream, http2.ErrCodeInternal)
				})
			})
		}
	}
	for name, c := range map[string]struct {
		upstream func(testing.TB) (url, keys string)
		certain  bool // the header section is never sent before the abort is noticed
	}{
		"chunked":              {http1Upstream("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), false},
		"events":               {http1Upstream("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"), false},
		"known length":         {http1Upstream("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"), true},
		"HTTP/2":               {http2Upstream(":status", "200"), false},
		"HTTP/2, known length": {http2Upstream(":status", "200", "content-length", "1000000"), true},
	} {
		for client, transport := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{DisableKeepAlives: true}}, "HTTP/2": h2cClient(t)} {
			t.Run(name+" to "+client, func(t *testing.T) {
				url, keys := c.upstream(t)
				_, address, recorded := start(t, routeConfig(url, keys, "breaker: {fail_max: 0}", "fallback_enabled: true", "fallback: replacement")+
					"fallbacks: {replacement: {try: [static], when: [reset], static: {status: 200, body: {answer: replaced}}}}\n")
				for range 60 {
					res, err := transport.Get("http://" + address + "/svc")
					if err != nil {
						if client == "HTTP/2" {
							recorded.next(t)
							continue // the client may see the stream's reset before the header section
						}
						t.Fatal(err)
					}
					body, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					replaced := res.Header.Get("X-Fallback") == "static" && string(body) == `{"answer":"replaced"}` && err == nil
					cut := res.Header.Get("X-Fallback") == "" && len(body) == 0 && err != nil
					if !replaced && (!cut || c.certain) {
						t.Errorf("status %d, %v, %q, %v", res.StatusCode, res.Header, body, err)
					}
					if o := recorded.next(t); o.Failure == nil || o.Failure.Type == events.ErrorProtocol || (o.Strategy == "static") != replaced {
						t.Errorf("%+v %+v", o, o.Failure)
					}
				}
			})
		}
	}
}
