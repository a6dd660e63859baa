package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"cbproxy/internal/events"
)

// An idle HTTP/2 connection is tested with PING frames only if the route sets keepalive_ping, because servers may treat PINGs as
// abuse.
func TestKeepalivePing(t *testing.T) {
	if c := parse(t, routeConfig("h2c://127.0.0.1:1")); c.Routes["svc"].KeepalivePing != 0 {
		t.Errorf("the default is %v, want 0", c.Routes["svc"].KeepalivePing)
	}
	pinged := make(chan struct{}, 1)
	url, _ := frameUpstream(t, false, func(_ int, f *frameConn) {
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					_ = f.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				f.respond(frame.StreamID, "200", "ok")
			case *http2.PingFrame:
				select {
				case pinged <- struct{}{}:
				default:
				}
				_ = f.WritePing(true, frame.Data)
			}
		}
	})
	_, address, _ := start(t, routeConfig(url, "keepalive_ping: 20ms"))
	get(t, "http://"+address+"/svc")
	<-pinged
}

// After a request has timed out on an HTTP/2 connection that receives nothing any more, a new connection is used, without a reload
// or a recovery of the breaker.
func TestUnresponsiveHTTP2ConnectionIsReplacedAfterATimeout(t *testing.T) {
	for protocol, secured := range map[string]bool{"h2c": false, "https": true} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var opened atomic.Int32
			url, keys := frameUpstream(t, secured, func(n int, f *frameConn) {
				opened.Add(1)
				f.eachStream(func(stream uint32, _ bool) {
					if n == 0 && stream > 1 {
						select {} // nothing is read or written any more
					}
					f.respond(stream, "200", "ok")
				})
			})
			_, address, recorded := start(t, routeConfig(url, keys, "timeout: 500ms", "breaker: {fail_max: 0}"))
			for i, want := range []int{200, 504, 200, 200} {
				if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != want {
					t.Errorf("request %d: status %d, want %d", i, res.StatusCode, want)
				}
				recorded.next(t)
			}
			if n := opened.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// If a caller's deadline is too short for the upstream to respond, neither its expiry nor the upstream's reaction to it counts as a
// failure.
func TestShortCallerDeadlineRecordsNoFailure(t *testing.T) {
	for name, react := range map[string]func(f *frameConn, stream uint32){
		"reset": func(f *frameConn, stream uint32) { _ = f.WriteRSTStream(stream, http2.ErrCodeCancel) },
		"trailers-only": func(f *frameConn, stream uint32) {
			f.writeHeaders(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "4")
		},
		"trailers": func(f *frameConn, stream uint32) {
			f.writeHeaders(stream, false, ":status", "200", "content-type", "application/grpc")
			f.writeHeaders(stream, true, "grpc-status", "4")
		},
	} {
		t.Run(name, func(t *testing.T) {
			url, keys := frameUpstream(t, false, func(_ int, f *frameConn) {
				f.eachStream(func(stream uint32, _ bool) { react(f, stream) })
			})
			server, address, recorded := start(t, routeConfig(url, keys, "breaker: {fail_max: 1}"))
			res := callGRPC(t, address, "Grpc-Timeout", "99m")
			code := res.Header.Get("Grpc-Status") + res.Trailer.Get("Grpc-Status")
			if res.StatusCode != http.StatusOK || code != "4" {
				t.Errorf("status %d, gRPC status %q", res.StatusCode, code)
			}
			if o := recorded.next(t); o.Result != events.ResultCancelled || server.Breaker("svc").State() != events.Closed {
				t.Errorf("%+v %+v, the breaker is %v", o, o.Failure, server.Breaker("svc").State())
			}
		})
	}
}

// A client that does not read its interim responses blocks no other request on the same connection to the upstream, whatever their
// number.
func TestInterimResponsesDoNotBlockOtherRequests(t *testing.T) {
	flooded := make(chan struct{})
	url, keys := frameUpstream(t, false, func(_ int, f *frameConn) {
		f.eachStream(func(stream uint32, _ bool) {
			if stream > 1 {
				f.respond(stream, "200", "ok")
				return
			}
			for range 20_000 { // more than fits into the buffers of a connection
				f.writeHeaders(stream, false, ":status", "103", "link", strings.Repeat("x", 1000))
			}
			close(flooded)
		})
	})
	_, address, _ := start(t, routeConfig(url, keys, "timeout: 60s"))
	c, _ := dial(t, address)
	limitReadBuffer(t, c)
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n")
	<-flooded
	if res, body := get(t, "http://"+address+"/svc"); res.StatusCode != http.StatusOK || body != "ok" {
		t.Errorf("status %d, %q", res.StatusCode, body)
	}
}
