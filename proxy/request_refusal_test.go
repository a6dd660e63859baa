package proxy_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"cbproxy/internal/events"
)

// A request that can't be sent to the upstream, or that the upstream refuses because of its content, is no failure of the upstream.
func TestRefusalOfOneRequestIsNoFailure(t *testing.T) {
	http2Upstream := func(t testing.TB) (string, string) {
		return frameUpstream(t, false, func(_ int, f *frameConn) {
			f.eachStream(func(stream uint32, _ bool) { f.respond(stream, "200", "ok") })
		})
	}
	limitedUpstream := func(t testing.TB) (string, string) {
		return frameUpstream(t, false, func(_ int, f *frameConn) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 4096})
			f.eachStream(func(stream uint32, _ bool) { f.respond(stream, "200", "ok") })
		})
	}
	refusingUpstream := func(refuse func(f *frameConn, stream uint32)) func(testing.TB) (string, string) {
		return func(t testing.TB) (string, string) {
			return frameUpstream(t, false, func(_ int, f *frameConn) {
				f.eachStream(func(stream uint32, _ bool) {
					if stream%4 == 1 { // every second request is refused
						f.respond(stream, "200", "ok")
						return
					}
					refuse(f, stream)
				})
			})
		}
	}
	http1Upstream := func(t testing.TB) (string, string) {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		t.Cleanup(s.Close)
		return s.URL, "tls: {}"
	}
	const large = "X-Large: %LARGE%\r\n"
	for name, c := range map[string]struct {
		upstream func(testing.TB) (url, keys string)
		request  string
		status   int
	}{
		"invalid trailer name, HTTP/2":           {http2Upstream, "POST /svc HTTP/1.1\r\nHost: x\r\nTrailer: X(T\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"invalid trailer name, HTTP/1.1":         {http1Upstream, "POST /svc HTTP/1.1\r\nHost: x\r\nTrailer: X(T\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"upgrade over HTTP/2":                    {http2Upstream, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", 502},
		"SETTINGS_MAX_HEADER_LIST_SIZE exceeded": {limitedUpstream, "GET /svc HTTP/1.1\r\nHost: x\r\n" + large + "\r\n", 431},
		"large request reset with ENHANCE_YOUR_CALM": {refusingUpstream(func(f *frameConn, stream uint32) {
			_ = f.WriteRSTStream(stream, http2.ErrCodeEnhanceYourCalm)
		}), "GET /svc HTTP/1.1\r\nHost: x\r\n" + large + "\r\n", 431},
		"large request, GOAWAY with ENHANCE_YOUR_CALM": {refusingUpstream(func(f *frameConn, stream uint32) {
			_ = f.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, nil)
			_ = f.conn.(*net.TCPConn).CloseWrite() // a close with unread data would reset the connection before the frame is read
			_, _ = io.Copy(io.Discard, f.conn)
		}), "GET /svc HTTP/1.1\r\nHost: x\r\n" + large + "\r\n", 431},
		"HTTP_1_1_REQUIRED": {refusingUpstream(func(f *frameConn, stream uint32) {
			_ = f.WriteRSTStream(stream, http2.ErrCodeHTTP11Required)
		}), "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n", 502},
	} {
		t.Run(name, func(t *testing.T) {
			url, keys := c.upstream(t)
			server, address, recorded := start(t, routeConfig(url, keys, "breaker: {fail_max: 1}"))
			for range 3 {
				if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != http.StatusOK { // opens a connection and receives its settings
					t.Fatalf("status %d of a plain request", res.StatusCode)
				}
				recorded.next(t)
				conn, r := dial(t, address)
				_, _ = io.WriteString(conn, strings.Replace(c.request, "%LARGE%", strings.Repeat("x", 40_000), 1))
				if res := nextResponse(t, r); c.status != res.StatusCode {
					t.Errorf("status %d, want %d", res.StatusCode, c.status)
				}
				if o := recorded.next(t); o.Failure != nil {
					t.Errorf("%+v %+v", o, o.Failure)
				}
			}
			if s := server.Breaker("svc").Status(); s.State != events.Closed || s.ConsecutiveFailures != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
