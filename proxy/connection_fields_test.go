package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cbproxy/internal/certtest"
)

// scriptedUpstream reads a request on each connection, says text and closes it.
func cannedUpstream(t testing.TB, secured *tls.Config, text string) (url string) {
	t.Helper()
	url = rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if secured != nil {
			over := tls.Server(rereadConn{c, r}, secured)
			c, r = over, bufio.NewReader(over)
		}
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		if over, ok := c.(*tls.Conn); ok {
			_ = over.CloseWrite()
		}
	})
	if secured != nil {
		url = strings.Replace(url, "http:", "https:", 1)
	}
	return url
}

// rereadConn is a connection of which r has read something.
type rereadConn struct {
	net.Conn
	r io.Reader
}

func (c rereadConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// exchangeBytes sends bytes on a connection of their own, and returns all that is answered until the end, or until answered
// contains last.
func rawResponse(t testing.TB, address, request, last string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var answered bytes.Buffer
	buffer := make([]byte, 4<<10)
	for last == "" || !strings.Contains(answered.String(), last) {
		n, err := c.Read(buffer)
		answered.Write(buffer[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v after %q", err, answered.String())
		}
	}
	return answered.String()
}

// What concerns one connection alone goes no further than that, in whatever message it comes: net/http deletes a Connection
// field with the option close before anybody can see what else it names.
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
		says  string
		wants []string // what has to come
	}{
		"a length":              {ok + named + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"chunks":                {chunked(ok+named, ""), []string{"ok", "X-Kept: kept"}},
		"until the end":         {ok + named + "\r\nok", []string{"ok", "X-Kept: kept"}},
		"no body":               {"HTTP/1.1 204 No Content\r\nX-Kept: kept\r\n" + named + "\r\n", []string{"X-Kept: kept"}},
		"HTTP/1.0":              {"HTTP/1.0 200 OK\r\nX-Kept: kept\r\n" + named + "\r\nok", []string{"ok", "X-Kept: kept"}},
		"without close":         {ok + "Connection: X-Hop, X-Other-Hop\r\n" + hops + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"folded":                {ok + "Connection: close,\r\n X-Hop,\r\n\tX-Other-Hop\r\n" + hops + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"bare line feeds":       {strings.ReplaceAll(ok+named+"Content-Length: 2\r\n\r\nok", "\r\n", "\n"), []string{"ok", "X-Kept: kept"}},
		"a failing status":      {"HTTP/1.1 503 Unavailable\r\nX-Kept: kept\r\n" + named + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"a long header section": {ok + "X-Long: " + strings.Repeat("x", 10<<10) + "\r\n" + named + "Content-Length: 2\r\n\r\nok", []string{"ok", "X-Kept: kept"}},
		"an interim response": {strings.Replace(early, "%s", "Link: </a>\r\n"+named, 1) + ok + "X-Hop: kept\r\nContent-Length: 2\r\n\r\nok",
			[]string{"ok", "103 Early Hints", "Link: </a>", "X-Hop: kept", "X-Kept: kept"}},
		"two interim responses": {strings.Replace(early, "%s", "Link: </a>\r\nX-Hop: kept\r\n", 1) + strings.Replace(early, "%s", "Link: </b>\r\n"+named, 1) + ok + named + "Content-Length: 2\r\n\r\nok",
			[]string{"ok", "Link: </a>", "Link: </b>", "X-Hop: kept"}},
		"trailers": {chunked(ok+named+"Trailer: X-Hop, X-Sum, Keep-Alive\r\n", hops+"X-Sum: kept\r\nX-Unannounced: kept\r\n"),
			[]string{"ok", "X-Sum: kept", "X-Unannounced: kept"}},
		"trailers without close": {chunked(ok+"Connection: X-Hop, x-other-HOP\r\nTrailer: X-Hop, X-Sum\r\n", hops+"X-Sum: kept\r\n"), []string{"ok", "X-Sum: kept"}},
	} {
		t.Run(name, func(t *testing.T) {
			for kind, upstream := range map[string]string{"http": cannedUpstream(t, nil, c.says), "https": cannedUpstream(t, secured, c.says)} {
				_, address, _ := start(t, routeConfig(upstream, ca))
				for range 2 { // over https the second one may go another way
					got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n", "")
					if strings.Contains(got, "gone") {
						t.Errorf("%s: a hop-by-hop field reached the client: %q", kind, got)
					}
					for _, want := range c.wants {
						if !strings.Contains(got, want) {
							t.Errorf("%s: %q does not contain %q", kind, got, want)
						}
					}
				}
			}
		})
	}
}

func TestHopByHopFieldsOf101ResponsesAreRemoved(t *testing.T) {
	upstream := cannedUpstream(t, nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade, X-Hop\r\nX-Hop: gone\r\nKeep-Alive: gone\r\nX-Kept: kept\r\n\r\nfirst words")
	_, address, _ := start(t, routeConfig(upstream))
	got := rawResponse(t, address, "GET /svc HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "first words")
	if strings.Contains(got, "gone") || !strings.Contains(got, "X-Kept: kept\r\n") || !strings.Contains(got, "Upgrade: websocket\r\n") || !strings.Contains(got, "Connection: Upgrade\r\n") {
		t.Errorf("%q", got)
	}
}

// Over HTTP/2 there are no such fields; an upstream that sends them all the same is not passed on.
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

// What is kept of a response, and what a second upstream says, is without them too.
func TestFallbackResponsesHaveNoHopByHopFields(t *testing.T) {
	const says = "HTTP/1.1 200 OK\r\nX-Kept: kept\r\nConnection: X-Hop, close\r\nX-Hop: gone\r\nContent-Length: 2\r\n\r\nok"
	var alive atomic.Bool
	alive.Store(true)
	dies := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil && alive.Load() {
			_, _ = io.WriteString(c, says)
		}
	})
	second := cannedUpstream(t, nil, says)
	_, address, _ := start(t, "fallbacks:\n  kept: {try: [cache]}\n  second: {try: [upstream], upstream: {url: "+second+"}}\nroutes:\n"+
		"  kept: {prefix: /kept, upstream: "+dies+", fallback: kept}\n  second: {prefix: /second, upstream: 'http://127.0.0.1:1', fallback: second}\n")
	get(t, "http://"+address+"/kept")
	alive.Store(false)
	for path, fallback := range map[string]string{"/kept": "cache", "/second": "upstream"} {
		res, body := get(t, "http://"+address+path)
		if body != "ok" || res.Header.Get("X-Fallback") != fallback || res.Header.Get("X-Kept") != "kept" || res.Header.Get("X-Hop") != "" {
			t.Errorf("%s: %q, %v", path, body, res.Header)
		}
	}
}
