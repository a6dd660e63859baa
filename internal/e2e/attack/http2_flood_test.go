package attack

import (
	"bytes"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"cbproxy/internal/e2e/harness"
)

// floodCase is a sequence of frames that one HTTP/2 client sends until the proxy closes the connection.
type floodCase struct {
	send             func(c *rawHTTP2, n uint32) // called with n from 0
	count            uint32                      // the maximum number of calls of send
	closesConnection bool                        // the proxy must close the connection before count is reached
}

var floodCases = map[string]floodCase{
	"streams reset immediately by the client": {count: 5000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.encodeRequest("GET", "/svc/last"), EndStream: true, EndHeaders: true})
		_ = c.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
	}},
	"uploads reset immediately by the client": {count: 2000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.encodeRequest("POST", "/svc/last"), EndHeaders: true})
		_ = c.WriteData(2*n+1, false, []byte("abc"))
		_ = c.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
	}},
	"streams reset by the server": {count: 5000, send: func(c *rawHTTP2, n uint32) { // because the flow-control window overflows
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.encodeRequest("GET", "/svc/last"), EndStream: true, EndHeaders: true})
		_ = c.WriteWindowUpdate(2*n+1, 1<<31-1)
	}},
	"more unfinished streams than allowed": {count: 2000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.encodeRequest("POST", "/svc/open"), EndHeaders: true})
	}},
	"endless CONTINUATION": {count: 20_000, closesConnection: true, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encodeRequest("GET", "/svc/endless"), EndStream: true})
		}
		_ = c.WriteContinuation(1, false, c.encodeFields("a", strings.Repeat("b", 8000)))
	}},
	"endless empty CONTINUATION": {count: 1_000_000, closesConnection: true, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encodeRequest("GET", "/svc/endless"), EndStream: true})
		}
		_ = c.WriteContinuation(1, false, nil)
	}},
	"header blocks that decompress to megabytes": {count: 200, send: func(c *rawHTTP2, n uint32) {
		block := c.encodeRequest("GET", "/svc/bomb", "a", strings.Repeat("b", 3000))
		block = append(block, bytes.Repeat([]byte{0xbe}, 10_000)...) // each byte refers to the newest field of the dynamic table
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: block, EndStream: true, EndHeaders: true})
	}},
	"PING": {count: 100_000, send: func(c *rawHTTP2, _ uint32) { _ = c.WritePing(false, [8]byte{}) }},
	"SETTINGS": {count: 100_000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n % 1000})
	}},
	"PRIORITY": {count: 100_000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WritePriority(2*n+1, http2.PriorityParam{StreamDep: 2*n + 3})
	}},
	"empty DATA": {count: 100_000, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encodeRequest("POST", "/svc/empty"), EndHeaders: true})
		}
		_ = c.WriteData(1, false, nil)
	}},
	"DATA with padding only": {count: 20_000, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encodeRequest("POST", "/svc/empty"), EndHeaders: true})
		}
		_ = c.WriteDataPadded(1, false, nil, make([]byte, 255))
	}},
	"DATA on a closed stream": {count: 10_000, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encodeRequest("GET", "/svc/over"), EndStream: true, EndHeaders: true})
		}
		_ = c.WriteData(1, false, []byte("abc"))
	}},
	"unknown frames": {count: 100_000, send: func(c *rawHTTP2, _ uint32) { _ = c.WriteRawFrame(0x7f, 0xff, 1, []byte("abc")) }},
}

// TestHTTP2FloodsAreBounded checks that a flood of frames causes few upstream requests, that the proxy's memory,
// goroutines and descriptors stay bounded, and that it serves other clients during the flood.
func TestHTTP2FloodsAreBounded(t *testing.T) {
	t.Parallel()
	for name, f := range floodCases {
		t.Run(name, func(t *testing.T) {
			u := startRecordingUpstream(t)
			p := harness.StartProxy(t, harness.Options{Config: "limits: {idle_timeout: 1}\n" + strictBreakerConfig(u.URL(), ", timeout: 3")})
			checkNormalRequest(p)
			goroutines, descriptors, heap := p.Metric("go_goroutines"), p.Metric("process_open_fds"), p.Metric("go_memstats_heap_inuse_bytes")
			c := dialHTTP2(p)
			var closed atomic.Bool
			sent, read := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(sent)
				for n := range f.count {
					f.send(c, n)
					if c.out.Buffered() == 0 && closed.Load() { // after each flush
						return
					}
				}
				closed.CompareAndSwap(false, c.out.Flush() != nil)
			}()
			go func() { // otherwise the proxy closes the connection because the client does not read
				defer close(read)
				_, _ = io.Copy(io.Discard, c.conn)
				closed.Store(true)
			}()
			checkNormalRequest(p)
			<-sent
			if now := p.Metric("go_memstats_heap_inuse_bytes"); now > heap+64<<20 {
				t.Errorf("the heap has grown from %v to %v", heap, now)
			}
			if f.closesConnection {
				harness.Eventually(t, "the proxy closes the connection", closed.Load)
			}
			checkNormalRequest(p)
			_ = c.conn.Close()
			<-read
			checkHealthy(p)
			if n := len(u.takeRequests()); n > 1000 {
				t.Errorf("the upstream saw %d requests", n)
			}
			harness.Eventually(t, "the goroutines have ended", func() bool {
				idle := p.Metric("process_open_fds") - descriptors // idle connections to the upstream
				return idle < 300 && p.Metric("go_goroutines") <= goroutines+2*idle+10
			})
		})
	}
}

// TestConcurrentHTTP2StreamsAreLimited checks that the concurrent upstream requests of one connection do not exceed the
// SETTINGS_MAX_CONCURRENT_STREAMS that the proxy has announced.
func TestConcurrentHTTP2StreamsAreLimited(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 1h")}) // so that none of them fails
	c := dialHTTP2(p)
	const streams = 1000
	go func() {
		for n := range uint32(streams) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.encodeRequest("GET", "/svc/hang"), EndStream: true, EndHeaders: true})
		}
		_ = c.out.Flush()
	}()
	limit, refused := uint32(0), 0
	_ = c.conn.SetReadDeadline(time.Now().Add(harness.EventTimeout))
	for refused == 0 {
		frame, err := c.ReadFrame()
		if err != nil {
			break // the proxy has closed the connection
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if v, ok := f.Value(http2.SettingMaxConcurrentStreams); ok {
				limit = v
			}
		case *http2.RSTStreamFrame:
			refused++
		}
	}
	if limit == 0 || limit > 250 {
		t.Errorf("%d concurrent streams are allowed", limit)
	}
	if n := p.Metric(`cbproxy_requests_in_flight{service="svc"}`); n > float64(limit) {
		t.Errorf("%v concurrent requests", n)
	}
	_ = c.conn.Close()
	harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if got := p.RequestCounts("svc"); got["failure"] != 0 {
		t.Errorf("requests %v", got)
	}
}
