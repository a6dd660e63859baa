package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"cbproxy/internal/service"
)

// faultyHTTP2Upstreams are connection handlers of HTTP/2 upstreams that violate the protocol or stop responding.
var faultyHTTP2Upstreams = map[string]func(n int, c net.Conn){
	"writes nothing":         func(_ int, c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	"reads nothing":          func(int, net.Conn) { select {} },
	"closes":                 func(int, net.Conn) {},
	"responds with HTTP/1.1": func(_ int, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
	"writes zeros":           func(_ int, c net.Conn) { _, _ = c.Write(make([]byte, 1<<16)) },
	"responds to no stream":  frameHandler(func(_ int, f *frameConn) { f.eachStream(func(uint32, bool) {}) }),
	"refuses all streams": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) { _ = f.WriteRSTStream(s, http2.ErrCodeRefusedStream) })
	}),
	"resets all streams": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) { _ = f.WriteRSTStream(s, http2.ErrCodeProtocol) })
	}),
	"GOAWAY before each stream": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) { _ = f.WriteGoAway(s-1, http2.ErrCodeNo, nil) })
	}),
	"GOAWAY after each stream": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) { _ = f.WriteGoAway(s, http2.ErrCodeNo, nil) })
	}),
	"repeated GOAWAY": frameHandler(func(_ int, f *frameConn) {
		for f.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) == nil {
			time.Sleep(time.Millisecond) // limits the rate
		}
	}),
	"window size 0": frameHandler(func(_ int, f *frameConn) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		f.eachStream(func(uint32, bool) {})
	}),
	"allows no streams": frameHandler(func(_ int, f *frameConn) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		f.eachStream(func(uint32, bool) {})
	}),
	"incomplete header section": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte{0x88}})
		})
	}),
	"endless 103 responses": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) {
			for f.conn.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
				f.writeHeaders(s, false, ":status", "103", "link", strings.Repeat("x", 1000))
				if f.WritePing(false, [8]byte{}) != nil {
					return
				}
			}
		})
	}),
	"incomplete body": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) {
			f.writeHeaders(s, false, ":status", "200", "content-length", "1000")
			_ = f.WriteData(s, false, []byte("x"))
		})
	}),
	"idle event stream": frameHandler(func(_ int, f *frameConn) {
		f.eachStream(func(s uint32, _ bool) {
			f.writeHeaders(s, false, ":status", "200", "content-type", "text/event-stream")
		})
	}),
}

// hangTimeout is far longer than any of these requests takes on any machine. A request that takes longer hangs.
const hangTimeout = 60 * time.Second

// With each of the faulty upstreams, all requests end, a new configuration is applied, and the server closes.
func TestRequestsEndWithFaultyUpstreams(t *testing.T) {
	for name, handle := range faultyHTTP2Upstreams {
		for protocol, secured := range map[string]bool{"h2c": false, "https": true} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				url, keys := rawHTTP2Upstream(t, secured, handle)
				testRequestsEnd(t, routeConfig(url, keys, "timeout: 500ms", "idle_timeout: 500ms", "breaker: {fail_max: 20, recovery_timeout: 50ms}"))
			})
		}
	}
	for name, response := range map[string]string{
		"writes nothing": "", "incomplete header section": "HTTP/1.1 200 O", "incomplete body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
		"idle stream": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name+" http", func(t *testing.T) {
			t.Parallel()
			url := rawUpstream(t, func(_ int, c net.Conn, _ *bufio.Reader) {
				_, _ = io.WriteString(c, response)
				select {}
			})
			testRequestsEnd(t, routeConfig(url, "timeout: 500ms", "idle_timeout: 500ms", "breaker: {fail_max: 20, recovery_timeout: 50ms}"))
		})
	}
}

// testRequestsEnd sends requests of all kinds and a delivery to a proxy with the given configuration, applies a changed configuration
// and closes the proxy. It fails if any of that takes longer than hangTimeout.
func testRequestsEnd(t *testing.T, config string) {
	server, address, _ := start(t, config)
	ctx, cancel := context.WithTimeout(t.Context(), hangTimeout)
	defer cancel()
	var requests sync.WaitGroup
	for range 4 {
		for kind := range 4 {
			requests.Go(func() {
				if err := sendRequest(ctx, address, kind); ctx.Err() != nil {
					t.Errorf("a request of kind %d does not end: %v", kind, err)
				}
			})
		}
	}
	requests.Go(func() {
		d := &service.Delivery{Service: "svc", Method: http.MethodPost, Header: http.Header{}, Body: make([]byte, 200_000)}
		if _, err := server.Deliver(ctx, d); ctx.Err() != nil {
			t.Errorf("a delivery does not end: %v", err)
		}
	})
	requests.Wait()
	done := make(chan error, 1)
	go func() {
		err := server.Apply(parse(t, strings.Replace(config, "timeout: 500ms", "timeout: 600ms", 1)))
		server.Fallbacks()
		server.Close()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("applying a configuration or closing the server blocks")
	}
}

// sendRequest sends a request of one of four kinds and reads the response to its end.
func sendRequest(ctx context.Context, address string, kind int) error {
	var body io.Reader
	method := http.MethodGet
	switch kind {
	case 1:
		method, body = http.MethodPost, strings.NewReader("hello")
	case 2:
		method, body = http.MethodPost, io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)))
	case 3:
		return sendIncompleteUpload(ctx, address)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+"/svc", body)
	if err != nil {
		return fmt.Errorf("create a request: %w", err)
	}
	client := &http.Transport{DisableKeepAlives: true}
	res, err := client.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// sendIncompleteUpload sends a request without the end of its body, and reads the response to its end. http.Transport is not used: it
// may wait for the rest of the body after the connection has failed.
func sendIncompleteUpload(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.WriteString(conn, "POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}
