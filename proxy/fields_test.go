package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cbproxy/internal/certtest"
)

// Hop-by-hop fields (RFC 9110, section 7.6.1) of all kinds of responses are not forwarded. net/http deletes a Connection field that
// has the option close, before a caller can read which other fields it names.
func TestHopByHopResponseFieldsAreRemoved(t *testing.T) {
	const early = "HTTP/1.1 103 Early Hints\r\n%s\r\n"
	const hops = "X-Hop: gone\r\nx-other-hop: gone\r\nKeep-Alive: gone\r\nProxy-Connection: gone\r\nProxy-Authenticate: gone\r\n"
	const named = "Connection: X-Hop, close\r\nConnection: x-OTHER-hop\r\n" + hops
	chunked := func(head, trailer string) string {
		return head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailer + "\r\n"
	}
	authority := certtest.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Sign(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	secured := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	ca := "tls: {ca_file: " + certtest.Write(t, t.TempDir(), "ca.pem", authority.PEM) + "}"
	const ok = "HTTP/1.1 200 OK\r\nX-Kept: kept\r\n"
	for name, c := range map[string]struct {
		response string
		wants    []string // all must be contained in what the client receives
	}{
		"Content-Length":      {ok + named + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"chunked":             {chunked(ok+named, ""), []string{"ok", "X-Kept: kept"}},
		"until close":         {ok + named + "\r\nok", []string{"ok", "X-Kept: kept"}},
		"no body":             {"HTTP/1.1 204 No Content\r\nX-Kept: kept\r\n" + named + "\r\n", []string{"X-Kept: kept"}},
		"HTTP/1.0":            {"HTTP/1.0 200 OK\r\nX-Kept: kept\r\n" + named + "\r\nok", []string{"ok", "X-Kept: kept"}},
		"without close":       {ok + "Connection: X-Hop, X-Other-Hop\r\n" + hops + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"folded":              {ok + "Connection: close,\r\n X-Hop,\r\n\tX-Other-Hop\r\n" + hops + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"bare line feeds":     {strings.ReplaceAll(ok+named+"Content-Length: 2\r\n\r\nok", "\r\n", "\n"), []string{"ok", "X-Kept: kept"}},
		"failure status":      {"HTTP/1.1 503 Unavailable\r\nX-Kept: kept\r\n" + named + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"long header section": {ok + "X-Long: " + strings.Repeat("x", 10<<10) + "\r\n" + named + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"interim response": {strings.Replace(early, "%s", "Link: </a>\r\n"+named, 1) + ok + "X-Hop: kept\r\nContent-Length: 2\r\n\r\nok",
			[]string{"ok", "103 Early Hints", "Link: </a>", "X-Hop: kept", "X-Kept: kept"}},
		"two interim responses": {strings.Replace(early, "%s", "Link: </a>\r\nX-Hop: kept\r\n", 1) + strings.Replace(early, "%s", "Link: </b>\r\n"+named, 1) + ok + named + "Content-Length: 2\r\n\r\nok",
			[]string{"ok", "Link: </a>", "Link: </b>", "X-Hop: kept"}},
		"trailers": {chunked(ok+named+"Trailer: X-Hop, X-Sum, Keep-Alive\r\n", hops+"X-Sum: kept\r\nX-Unannounced: kept\r\n"),
			[]string{"ok", "X-Sum: kept", "X-Unannounced: kept"}},
		"trailers without close": {chunked(ok+"Connection: X-Hop, x-other-HOP\r\nTrailer: X-Hop, X-Sum\r\n", hops+"X-Sum: kept\r\n"), []string{"ok", "X-Sum: kept"}},
	} {
		t.Run(name, func(t *testing.T) {
			for scheme, upstream := range map[string]string{"http": cannedUpstream(t, nil, c.response), "https": cannedUpstream(t, secured, c.response)} {
				_, address, _ := start(t, routeConfig(upstream, ca))
				for range 2 { // over https the second request may use the fast path
					got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n", "")
					if strings.Contains(got, "gone") {
						t.Errorf("%s: a hop-by-hop field reached the client: %q", scheme, got)
					}
					for _, want := range c.wants {
						if !strings.Contains(got, want) {
							t.Errorf("%s: %q does not contain %q", scheme, got, want)
						}
					}
				}
			}
		})
	}
}

func TestHopByHopFieldsOf101ResponsesAreRemoved(t *testing.T) {
	upstream := cannedUpstream(t, nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade, X-Hop\r\nX-Hop: gone\r\nKeep-Alive: gone\r\nX-Kept: kept\r\n\r\nfirst data")
	_, address, _ := start(t, routeConfig(upstream))
	got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "first data")
	if strings.Contains(got, "gone") || !strings.Contains(got, "X-Kept: kept\r\n") || !strings.Contains(got, "Upgrade: websocket\r\n") || !strings.Contains(got, "Connection: Upgrade\r\n") {
		t.Errorf("%q", got)
	}
}

// HTTP/2 has no hop-by-hop fields. If an upstream sends some, they are not forwarded.
func TestHopByHopFieldsOfHTTP2ResponsesAreRemoved(t *testing.T) {
	upstream := strings.Replace(rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := io.ReadFull(r, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, r)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			headers, ok := frame.(*http2.HeadersFrame)
			if !ok {
				continue
			}
			var block bytes.Buffer
			e := hpack.NewEncoder(&block)
			for _, field := range []string{":status 200", "connection x-hop", "x-hop gone", "keep-alive gone", "x-kept kept"} {
				name, value, _ := strings.Cut(field, " ")
				_ = e.WriteField(hpack.HeaderField{Name: name, Value: value})
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: headers.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
			_ = f.WriteData(headers.StreamID, false, []byte("ok"))
			block.Reset()
			_ = e.WriteField(hpack.HeaderField{Name: "x-hop", Value: "gone"})
			_ = e.WriteField(hpack.HeaderField{Name: "x-sum", Value: "kept"})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: headers.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		}
	}), "http:", "h2c:", 1)
	_, address, _ := start(t, routeConfig(upstream))
	got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "")
	if strings.Contains(got, "gone") || !strings.Contains(got, "X-Kept: kept") || !strings.Contains(got, "ok") || !strings.Contains(got, "X-Sum: kept") {
		t.Errorf("%q", got)
	}
}

func TestHopByHopRequestTrailersAreRemoved(t *testing.T) {
	var trailer atomic.Pointer[http.Header]
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		trailer.Store(&r.Trailer)
	}))
	defer upstream.Close()
	_, address, _ := start(t, routeConfig(upstream.URL))
	rawResponse(t, address, "POST /svc HTTP/1.1\r\nHost: x\r\nConnection: x-hop, close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Hop, Keep-Alive, Via, X-Sum\r\n\r\n"+
		"2\r\nok\r\n0\r\nX-Hop: gone\r\nKeep-Alive: gone\r\nVia: gone\r\nX-Sum: kept\r\n\r\n", "")
	if got := trailer.Load(); got == nil || len(*got) != 1 || (*got).Get("X-Sum") != "kept" {
		t.Errorf("trailers %v reached the upstream", got)
	}
}

// Cached responses and those of the upstream strategy have no hop-by-hop fields either, and keep their Date.
func TestFallbackResponsesHaveNoHopByHopFields(t *testing.T) {
	const date = "Mon, 02 Jan 2006 15:04:05 GMT"
	const response = "HTTP/1.1 200 OK\r\nX-Kept: kept\r\nDate: " + date + "\r\nConnection: X-Hop, close\r\nX-Hop: gone\r\nContent-Length: 2\r\n\r\nok"
	var alive atomic.Bool
	alive.Store(true)
	failing := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil && alive.Load() {
			_, _ = io.WriteString(c, response)
		}
	})
	second := cannedUpstream(t, nil, response)
	_, address, _ := start(t, "fallbacks:\n  cached: {try: [cache]}\n  second: {try: [upstream], upstream: {url: "+second+"}}\nroutes:\n"+
		"  cached: {prefix: /cached, upstream: "+failing+", fallback: cached}\n  second: {prefix: /second, upstream: 'http://127.0.0.1:1', fallback: second}\n")
	get(t, "http://"+address+"/cached")
	alive.Store(false)
	for path, fallback := range map[string]string{"/cached": "cache", "/second": "upstream"} {
		res, body := get(t, "http://"+address+path)
		if body != "ok" || res.Header.Get("X-Fallback") != fallback || res.Header.Get("X-Kept") != "kept" || res.Header.Get("X-Hop") != "" {
			t.Errorf("%s: %q, %v", path, body, res.Header)
		}
		if got := res.Header.Values("Date"); !slices.Equal(got, []string{date}) {
			t.Errorf("%s: Date %q", path, got)
		}
	}
}

// Fields that the proxy adds to responses are removed from the upstream's responses and trailers.
func TestUpstreamCannotSetProxyHeaders(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nX-Fallback: static\r\nLink: </a>\r\n\r\n"+
			"HTTP/1.1 200 OK\r\nConnection: X-Circuit-Breaker-State, X-Circuit-Breaker-Service\r\nX-Circuit-Breaker-State: open\r\n"+
			"X-Fallback: static\r\nX-Fallback-Reason: open\r\nProxy-Status: cbproxy; error=x\r\n"+
			"Transfer-Encoding: chunked\r\nTrailer: X-Fallback, X-Fine\r\n\r\n"+
			"2\r\nok\r\n0\r\nX-Fallback: static\r\nX-Fine: yes\r\nX-Circuit-Breaker-State: open\r\n\r\n")
	})
	_, address, _ := start(t, routeConfig(url))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	response, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, removed := range []string{"X-Fallback", "Proxy-Status", "X-Circuit-Breaker-State: open"} {
		if strings.Contains(string(response), removed) {
			t.Errorf("%s was forwarded", removed)
		}
	}
	for _, forwarded := range []string{"X-Circuit-Breaker-State: closed", "X-Circuit-Breaker-Service: svc", "X-Fine: yes", "Link: </a>"} {
		if !strings.Contains(string(response), forwarded) {
			t.Errorf("no %s in\n%s", forwarded, response)
		}
	}
}
