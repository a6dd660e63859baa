package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// A client that reads only after it has sent its whole body, with pauses, receives the fallback's response.
func TestPausingUploadReceivesTheFallbackResponse(t *testing.T) {
	const size, pieces = 300 << 10, 3 // larger than what the proxy reads before it responds
	for name, c := range map[string]struct{ head, before, after, end string }{
		"short":   {fmt.Sprintf("Content-Length: %d", 5*pieces), "", "", ""},
		"long":    {fmt.Sprintf("Content-Length: %d", size*pieces), "", "", ""},
		"chunked": {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n", size), "\r\n", "0\r\n\r\n"},
	} {
		for _, fallback := range []string{"try: [static]", "try: [cache, static]"} {
			t.Run(name+", "+fallback, func(t *testing.T) {
				t.Parallel()
				text := routeConfig(closedPort(t)) + "fallbacks: {svc: {" + fallback + ", static: {status: 203, body: {a: 1}}}}\n"
				server, address, _ := start(t, text)
				server.Breaker("svc").Force(events.Open, 0, "test")
				conn, r := dial(t, address)
				_, _ = io.WriteString(conn, "POST /svc HTTP/1.1\r\nHost: x\r\n"+c.head+"\r\n\r\n")
				n := size
				if name == "short" {
					n = 5
				}
				for range pieces {
					if _, err := io.WriteString(conn, c.before+strings.Repeat("x", n)+c.after); err != nil {
						t.Fatal(err)
					}
					time.Sleep(1500 * time.Millisecond) // the pause that is tested
				}
				if _, err := io.WriteString(conn, c.end); err != nil {
					t.Fatal(err)
				}
				if res := nextResponse(t, r); res.StatusCode != 203 || res.Header.Get("X-Fallback") != "static" {
					t.Errorf("%+v", res)
				}
			})
		}
	}
}

// The proxy goes on reading a body after the response until the route's timeout has passed, the client pauses for longer than
// limits.read_header_timeout, or the server shuts down.
func TestUploadAfterTheResponseIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		readHeaderTimeout, timeout string
		trickles, shutdown         bool
		least, most                time.Duration
	}{
		"timeout":  {"60s", "6s", true, false, 5 * time.Second, 16 * time.Second},
		"pause":    {"2s", "60s", false, false, time.Second, 12 * time.Second},
		"shutdown": {"60s", "60s", false, true, 0, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := "limits: {read_header_timeout: " + c.readHeaderTimeout + "}\n" + routeConfig(closedPort(t), "timeout: "+c.timeout) +
				"fallbacks: {svc: {try: [static], static: {status: 203, body: {a: 1}}}}\n"
			p := startProxy(t, text, proxyOptions{})
			p.Breaker("svc").Force(events.Open, 0, "test")
			conn, r := dial(t, p.address)
			began := time.Now()
			_, _ = io.WriteString(conn, "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
			if res := nextResponse(t, r); res.StatusCode != 203 {
				t.Fatalf("%+v", res)
			}
			go func() {
				for c.trickles {
					if _, err := conn.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			if c.shutdown {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				if err := p.http.Shutdown(ctx); err != nil {
					t.Errorf("shutdown: %v", err)
				}
				if err := <-p.served; err != http.ErrServerClosed {
					t.Error(err)
				}
			}
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, _ = io.Copy(io.Discard, r)
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("the connection ended after %v", took)
			}
		})
	}
}

func TestConnectionIsReusedAfterAFallbackToAnUpload(t *testing.T) {
	server, address, recorded := start(t, routeConfig("http://127.0.0.1:1")+"fallbacks: {svc: {static: {body: sorry}}}\n")
	server.Breaker("svc").Force(events.Open, 0, "")
	reused := 0
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			reused++
		}
	}}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	const uploads = 10
	for range uploads {
		ctx := httptrace.WithClientTrace(t.Context(), trace)
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/svc", strings.NewReader(strings.Repeat("x", 50_000)))
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != `"sorry"` {
			t.Errorf("%q", body)
		}
		recorded.next(t)
	}
	if reused < uploads/2 {
		t.Errorf("%d of %d uploads reused a connection", reused, uploads)
	}
}
