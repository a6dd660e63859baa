package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// An offer to switch to another protocol than websocket is removed, and the request is forwarded without it.
func TestOtherUpgradesThanWebSocketAreRemoved(t *testing.T) {
	type request struct {
		header http.Header
		body   string
	}
	var last atomic.Pointer[request]
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last.Store(&request{r.Header, string(body)})
		_, _ = io.WriteString(w, "served")
	}))
	defer upstream.Close()
	_, address, _ := start(t, routeConfig(upstream.URL))
	const settings = "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
	for fields, upgrade := range map[string]string{
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + settings:                                 "", // curl --http2, Java's HttpClient
		"Upgrade: h2c\r\n" + settings:                                                                        "",
		settings:                                                                                             "",
		"Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n":                                              "",
		"Connection: Upgrade\r\nUpgrade: H2C\r\n":                                                            "",
		"Connection: Upgrade\r\nUpgrade: \r\n":                                                               "",
		"Connection: Upgrade\r\nUpgrade: websocket/13\r\n":                                                   "",
		"Upgrade: websocket\r\n":                                                                             "",
		"Connection: Upgrade\r\nUpgrade: websocket\r\n":                                                      "websocket",
		"Connection: Upgrade\r\nUpgrade: WebSocket\r\n":                                                      "WebSocket",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket, h2c\r\n" + settings:                      "websocket",
		"Connection: HTTP2-Settings, upgrade\r\nUpgrade: h2c , websocket\r\n" + settings:                     "websocket",
		"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n":                                      "websocket",
		"Connection: Upgrade\r\nUpgrade: h2c\r\nConnection: X-Hop\r\nX-Hop: removed\r\n":                     "",
		"Connection: Upgrade\r\nUpgrade: h2c\r\nTE: trailers\r\nX-Fields: of some more names than a few\r\n": "",
	} {
		for request, body := range map[string]string{
			"GET /svc HTTP/1.1\r\n":                                "",
			"POST /svc HTTP/1.1\r\nContent-Length: 5\r\n":          "hello",
			"POST /svc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n": "hello",
			"GET /svc HTTP/1.0\r\n":                                "",
		} {
			sent := body
			if strings.Contains(request, "chunked") {
				sent = "5\r\nhello\r\n0\r\n\r\n"
			}
			want := upgrade
			if strings.Contains(request, "HTTP/1.0") { // which has no upgrades
				want = ""
			}
			last.Store(nil)
			got := rawResponse(t, address, request+"Host: x\r\nConnection: close\r\n"+fields+"\r\n"+sent, "")
			s := last.Load()
			if s == nil || !strings.Contains(got, " 200 OK\r\n") || !strings.Contains(got, "served") {
				t.Errorf("%q to %q: response %q", fields, request, got)
				continue
			}
			wantConnection := map[bool]string{true: "Upgrade"}[want != ""]
			if s.body != body || s.header.Get("Upgrade") != want || s.header["Http2-Settings"] != nil || s.header["X-Hop"] != nil || s.header.Get("Connection") != wantConnection {
				t.Errorf("%q to %q: the upstream received %q, %q; want Upgrade %q", fields, request, s.header, s.body, want)
			}
		}
	}
}

// An upstream that offers HTTP/2 gets upgrade requests over HTTP/1.1, and other requests over HTTP/2.
func TestWebSocketReachesATLSUpstreamThatOffersHTTP2(t *testing.T) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(w, r.Proto)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}))
	upstream.EnableHTTP2 = true
	upstream.StartTLS()
	defer upstream.Close()
	_, address, _ := start(t, routeConfig(upstream.URL, "tls: {insecure_skip_verify: true}"))
	for range 2 {
		if _, body := get(t, "http://"+address+"/svc"); body != "HTTP/2.0" {
			t.Errorf("other requests use %s", body)
		}
		c, r := openWebSocket(t, address)
		fmt.Fprint(c, "x")
		if b, err := r.ReadByte(); err != nil || b != 'x' {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// A request for a WebSocket is not sent to a second upstream: without its Upgrade field it would be another request.
func TestSecondUpstreamGetsNoUpgrades(t *testing.T) {
	var requests atomic.Int32
	second := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer second.Close()
	_, address, recorded := start(t, "fallbacks: {svc: {try: [upstream, static], upstream: {url: "+second.URL+"}, static: {status: 503, body: none}}}\n"+
		routeConfig(closedPort(t), "breaker: {fail_max: 1}"))
	for _, test := range []struct{ upgrade, strategy, reason string }{
		{"websocket", "static", "connect"},
		{"websocket", "static", "open"},
		{"h2c", "upstream", "open"}, // this offer is removed
	} {
		response := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: "+test.upgrade+"\r\n\r\n", "")
		if !strings.Contains(response, "X-Fallback: "+test.strategy+"\r\n") || !strings.Contains(response, "X-Fallback-Reason: "+test.reason+"\r\n") {
			t.Errorf("%+v: %s", test, response)
		}
		recorded.next(t)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests were sent to the second upstream, want the one without an upgrade", n)
	}
}
