package proxy_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/proxy"
	"cbproxy/routes"
)

// listen serves a handler as the data plane does, and returns its address.
func listen(t testing.TB, h http.HandlerFunc, limits routes.Limits) string {
	t.Helper()
	l, err := proxy.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := proxy.NewHTTPServer(h, &routes.Config{Limits: limits, Server: way}, slog.New(slog.DiscardHandler))
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return l.Addr().String()
}

var someLimits = routes.Limits{HeaderBytes: 64 << 10, BodyBytes: 1 << 20, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second}

func dialTo(t testing.TB, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, bufio.NewReader(c)
}

// RFC 9112, section 6.1: where two readers may disagree on where a request ends, the
// connection has to end with it.
func TestAmbiguousFramingEndsTheConnection(t *testing.T) {
	address := listen(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hints" {
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header())
		}
		if r.URL.Path == "/header" {
			w.WriteHeader(http.StatusAccepted)
		}
		_, _ = io.WriteString(w, "answer")
	}, someLimits)
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	for request, ends := range map[string]bool{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:                                 true,
		"POST /header HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\nA: b\r\ncontent-length: 2\r\n\r\n" + chunks:                    true,
		"POST /hints HTTP/1.1\nHOST: x\nTRANSFER-ENCODING: chunked\nCONTENT-LENGTH: 5\n\n" + chunks:                                       true,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + chunks:         true,
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + "GET / HTTP/1.0\r\n\r\n":           true,
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n" + chunks:       true,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:                                                       false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello":                                                                    false,
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello":                                          false,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nContent-Length: \r\n0\r\n\r\n":                             false,
		"POST / HTTP/1.1\r\nHost: x\r\nX: content-length: 5\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:        false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\n\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n":                       false,
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks: false,
	} {
		for _, size := range []int{len(request), 1} {
			c, r := dialTo(t, address)
			go func() {
				for rest := request; len(rest) > 0; {
					n := min(size, len(rest))
					if _, err := io.WriteString(c, rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			answers := strings.Count(request, "HTTP/1.")
			if ends {
				answers = 1
			}
			var last *http.Response
			for range answers {
				last = nextResponse(t, r)
			}
			if last.Close != ends && !strings.Contains(request, "HTTP/1.0") {
				t.Errorf("%q in pieces of %d: the last response has close %v", request, size, last.Close)
			}
			if ends {
				if rest, err := io.ReadAll(r); len(rest) > 0 {
					t.Errorf("%q in pieces of %d: then came %q, %v", request, size, rest, err)
				}
				continue
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if res := nextResponse(t, r); res.StatusCode != 200 {
				t.Errorf("%q in pieces of %d: on the same connection then %v", request, size, res)
			}
		}
	}
}

// nextResponse reads a final response and its body.
func nextResponse(t testing.TB, r *bufio.Reader) *http.Response {
	t.Helper()
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body = io.NopCloser(strings.NewReader(string(body)))
		return res
	}
}

// What net/http refuses by itself is refused in the proxy's words.
func TestRefusalsOfMalformedRequestsAreProblems(t *testing.T) {
	limits := someLimits
	limits.HeaderBytes = 1 << 10
	handled := make(chan string, 100)
	address := listen(t, func(_ http.ResponseWriter, r *http.Request) { handled <- r.Method + " " + r.RequestURI }, limits)
	for request, want := range map[string]int{
		"GET / HTTP/1.1\r\nmarker\r\n\r\n":                                             400,
		"GET / HTTP/1.1\r\nmarker: x\r\n\r\n":                                          400, // no Host
		"GET /marker\r\n\r\n":                                                          400,
		"GET /\x01marker HTTP/1.1\r\nHost: x\r\n\r\n":                                  400,
		"POST /marker HTTP/1.1\r\nHost: x\r\nContent-Length: marker\r\n\r\n":           400,
		"POST /marker HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: marker\r\n\r\n":        501,
		"GET /marker HTTP/3.0\r\nHost: x\r\n\r\n":                                      505,
		"PRI * HTTP/2.0\r\nmarker: x\r\nContent-Length: 3\r\nHost: x\r\n\r\nabc":       505,
		"PRI * HTTP/2.0\r\n\r\nmarker\r\n\r\n":                                         505,
		"POST / HTTP/1.1\r\nHost: x\r\nExpect: marker\r\nContent-Length: 0\r\n\r\n":    417,
		"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("marker", 60_000) + "\r\n": 431,
	} {
		c, r := dialTo(t, address)
		_, _ = io.WriteString(c, request)
		res := nextResponse(t, r)
		body, _ := io.ReadAll(res.Body)
		var said struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(body, &said); err != nil || said.Status != want || said.Title != http.StatusText(want) || said.Detail == "" {
			t.Errorf("%.60q: %s: %v", request, body, err)
		}
		if res.StatusCode != want || !res.Close || res.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.HasPrefix(res.Header.Get("Proxy-Status"), "cbproxy; error=") || res.Header.Get("Date") == "" {
			t.Errorf("%.60q: %d %v", request, res.StatusCode, res.Header)
		}
		if strings.Contains(string(body)+fmt.Sprint(res.Header), "marker") {
			t.Errorf("%.60q is echoed: %v %s", request, res.Header, body)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%.60q: then came %q", request, rest)
		}
	}
	close(handled)
	for h := range handled {
		t.Errorf("%s was handled", h)
	}
}

// A response that looks like a refusal of net/http's own is left as it is, whole or in
// part, and so is what a tunnel carries.
func TestNoResponseIsTakenForARefusal(t *testing.T) {
	const decoy = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	pad := strings.Repeat(" ", 8<<10) // more than net/http gathers: each write goes out as it is
	address := listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tunnel" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, decoy)
			if half, ok := c.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				t.Errorf("%T can't be closed for writing", c)
			}
			_, _ = io.Copy(io.Discard, c)
			return
		}
		h := w.Header()
		h["Date"], h["Content-Type"] = nil, []string{"text/plain; charset=utf-8"}
		h.Set("Content-Length", fmt.Sprint(3*(len(decoy)+len(pad))))
		w.WriteHeader(http.StatusBadRequest)
		for range 3 {
			_, _ = io.WriteString(w, decoy+pad)
			_ = http.NewResponseController(w).Flush()
		}
	}, someLimits)
	c, r := dialTo(t, address)
	for range 3 {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res := nextResponse(t, r)
		body, _ := io.ReadAll(res.Body)
		if string(body) != strings.Repeat(decoy+pad, 3) {
			t.Fatalf("%.300q…", body)
		}
	}
	_, _ = io.WriteString(c, "nonsense\r\n\r\n") // after good ones on the same connection
	if res := nextResponse(t, r); res.StatusCode != 400 || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	tunnel, r := dialTo(t, address)
	_, _ = io.WriteString(tunnel, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	if said, err := io.ReadAll(r); string(said) != decoy || err != nil {
		t.Errorf("through the tunnel came %q, %v", said, err)
	}
}

// A client that asks and asks and takes no answer is let go when a write has waited for
// limits.idle_timeout.
func TestClientThatTakesNoAnswersIsLetGo(t *testing.T) {
	limits := someLimits
	limits.IdleTimeout = 300 * time.Millisecond
	ended := make(chan error, 1)
	address := listen(t, func(w http.ResponseWriter, r *http.Request) {
		page := make([]byte, 64<<10)
		for {
			if _, err := w.Write(page); err != nil {
				ended <- err
				return
			}
		}
	}, limits)
	c, _ := dialTo(t, address)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the write waits for ever")
	}
}

// A handler's own deadline for a write stands, also once writes have been made.
func TestHandlersWriteDeadlineStands(t *testing.T) {
	limits := someLimits
	limits.IdleTimeout = time.Hour
	ended := make(chan time.Duration, 1)
	address := listen(t, func(w http.ResponseWriter, r *http.Request) {
		page, control := make([]byte, 64<<10), http.NewResponseController(w)
		began := time.Now()
		_, _ = w.Write(page)
		go func() { _ = control.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) }()
		for {
			if _, err := w.Write(page); err != nil {
				ended <- time.Since(began)
				return
			}
		}
	}, limits)
	c, _ := dialTo(t, address)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler's deadline was lost")
	}
}
