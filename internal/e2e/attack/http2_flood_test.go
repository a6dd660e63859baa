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

// flood is what one HTTP/2 client sends for as long as it is let.
type flood struct {
	send func(c *rawHTTP2, n uint32) // the n-th time, from 0
	most uint32                      // how often at most
	ends bool                        // the connection is ended before that
}

var floods = map[string]flood{
	"streams that are reset at once": {most: 5000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.request("GET", "/svc/last"), EndStream: true, EndHeaders: true})
		_ = c.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
	}},
	"uploads that are reset at once": {most: 2000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.request("POST", "/svc/last"), EndHeaders: true})
		_ = c.WriteData(2*n+1, false, []byte("abc"))
		_ = c.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
	}},
	"streams that the server resets": {most: 5000, send: func(c *rawHTTP2, n uint32) { // by a window that overflows
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.request("GET", "/svc/last"), EndStream: true, EndHeaders: true})
		_ = c.WriteWindowUpdate(2*n+1, 1<<31-1)
	}},
	"streams that never end, over the limit": {most: 2000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.request("POST", "/svc/open"), EndHeaders: true})
	}},
	"CONTINUATION without an end": {most: 20_000, ends: true, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("GET", "/svc/endless"), EndStream: true})
		}
		_ = c.WriteContinuation(1, false, c.fields("a", strings.Repeat("b", 8000)))
	}},
	"empty CONTINUATION without an end": {most: 1_000_000, ends: true, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("GET", "/svc/endless"), EndStream: true})
		}
		_ = c.WriteContinuation(1, false, nil)
	}},
	"header lists that unpack to megabytes": {most: 200, send: func(c *rawHTTP2, n uint32) {
		block := c.request("GET", "/svc/bomb", "a", strings.Repeat("b", 3000))
		block = append(block, bytes.Repeat([]byte{0xbe}, 10_000)...) // each byte is the newest field again
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: block, EndStream: true, EndHeaders: true})
	}},
	"PING": {most: 100_000, send: func(c *rawHTTP2, _ uint32) { _ = c.WritePing(false, [8]byte{}) }},
	"SETTINGS": {most: 100_000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: n % 1000})
	}},
	"PRIORITY": {most: 100_000, send: func(c *rawHTTP2, n uint32) {
		_ = c.WritePriority(2*n+1, http2.PriorityParam{StreamDep: 2*n + 3})
	}},
	"DATA without bytes": {most: 100_000, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("POST", "/svc/empty"), EndHeaders: true})
		}
		_ = c.WriteData(1, false, nil)
	}},
	"DATA of padding": {most: 20_000, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("POST", "/svc/empty"), EndHeaders: true})
		}
		_ = c.WriteDataPadded(1, false, nil, make([]byte, 255))
	}},
	"DATA on a stream that is over": {most: 10_000, send: func(c *rawHTTP2, n uint32) {
		if n == 0 {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("GET", "/svc/over"), EndStream: true, EndHeaders: true})
		}
		_ = c.WriteData(1, false, []byte("abc"))
	}},
	"unknown frames": {most: 100_000, send: func(c *rawHTTP2, _ uint32) { _ = c.WriteRawFrame(0x7f, 0xff, 1, []byte("abc")) }},
}

// A flood of frames costs the upstream little and the proxy nothing that stays, whether or
// not the connection is ended for it, and others are served meanwhile.
func TestHTTP2FloodsAreBounded(t *testing.T) {
	t.Parallel()
	for name, f := range floods {
		t.Run(name, func(t *testing.T) {
			u := startWitness(t)
			p := harness.StartProxy(t, harness.Options{Config: "limits: {idle_timeout: 1}\n" + oneMistake(u.URL(), ", timeout: 3")})
			checkServes(p)
			goroutines, descriptors, heap := p.Metric("go_goroutines"), p.Metric("process_open_fds"), p.Metric("go_memstats_heap_inuse_bytes")
			c := dialHTTP2(p)
			var broken atomic.Bool
			sent, read := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(sent)
				for n := range f.most {
					f.send(c, n)
					if c.out.Buffered() == 0 && broken.Load() { // now and then
						return
					}
				}
				broken.CompareAndSwap(false, c.out.Flush() != nil)
			}()
			go func() { // somebody who floods reads, or it would be over sooner
				defer close(read)
				_, _ = io.Copy(io.Discard, c.conn)
				broken.Store(true)
			}()
			checkServes(p)
			<-sent
			if most := p.Metric("go_memstats_heap_inuse_bytes"); most > heap+64<<20 {
				t.Errorf("the heap has grown from %v to %v", heap, most)
			}
			if f.ends {
				harness.Eventually(t, "the connection is ended", broken.Load)
			}
			checkServes(p)
			_ = c.conn.Close()
			<-read
			checkUnharmed(p)
			if n := len(u.take()); n > 1000 {
				t.Errorf("the upstream saw %d requests", n)
			}
			harness.Eventually(t, "no goroutine is left over", func() bool {
				kept := p.Metric("process_open_fds") - descriptors // connections to the upstream, for later
				return kept < 300 && p.Metric("go_goroutines") <= goroutines+2*kept+10
			})
		})
	}
}

// No more streams of one connection reach an upstream at once than the proxy has said that
// it allows.
func TestConcurrentHTTP2StreamsAreLimited(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: oneMistake(u.URL(), ", timeout: 2")})
	c := dialHTTP2(p)
	const streams = 1000
	go func() {
		for n := range uint32(streams) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: c.request("GET", "/svc/hang"), EndStream: true, EndHeaders: true})
		}
		_ = c.out.Flush()
	}()
	limit, refused := uint32(0), 0
	_ = c.conn.SetReadDeadline(time.Now().Add(harness.EventTimeout))
	for refused == 0 {
		frame, err := c.ReadFrame()
		if err != nil {
			break // ended for it
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
		t.Errorf("%d streams are allowed", limit)
	}
	if n := p.Metric(`cbproxy_requests_in_flight{service="svc"}`); n > float64(limit) {
		t.Errorf("%v requests at once", n)
	}
	_ = c.conn.Close()
	harness.Eventually(t, "nothing is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if got := p.RequestCounts("svc"); got["failure"] != 0 {
		t.Errorf("requests %v", got)
	}
}
