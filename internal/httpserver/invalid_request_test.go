package httpserver_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/httpserver"
)

// Requests that net/http rejects get a problem as their response, and it contains nothing that the client has sent.
func TestInvalidRequestsGetProblems(t *testing.T) {
	eachPath(t, testInvalidRequestsGetProblems)
}

func testInvalidRequestsGetProblems(t *testing.T, options httpserver.Options) {
	options.HeaderBytes = 1 << 10
	handled := make(chan string, 100)
	address := startServer(t, func(_ http.ResponseWriter, r *http.Request) { handled <- r.Method + " " + r.RequestURI }, options)
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
		c, r := dial(t, address)
		_, _ = io.WriteString(c, request)
		res := nextResponse(t, r)
		body, _ := io.ReadAll(res.Body)
		var parsed struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(body, &parsed); err != nil || parsed.Status != want || parsed.Title != http.StatusText(want) || parsed.Detail == "" {
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
			t.Errorf("%.60q: received %q after the response", request, rest)
		}
	}
	close(handled)
	for h := range handled {
		t.Errorf("%s reached the handler", h)
	}
}

// A handler's response that looks like an error response of net/http is not changed, neither as a whole nor in part. The same
// holds for the data of a tunnel.
func TestHandlerResponsesAreNotReplaced(t *testing.T) {
	eachPath(t, testHandlerResponsesAreNotReplaced)
}

func testHandlerResponsesAreNotReplaced(t *testing.T, options httpserver.Options) {
	const lookalike = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	pad := strings.Repeat(" ", 8<<10) // more than net/http buffers, so that each write is sent as it is
	address := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tunnel" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, lookalike)
			if half, ok := c.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				t.Errorf("%T can't be closed for writing", c)
			}
			_, _ = io.Copy(io.Discard, c)
			return
		}
		h := w.Header()
		h["Date"], h["Content-Type"] = nil, []string{"text/plain; charset=utf-8"}
		h.Set("Content-Length", fmt.Sprint(3*(len(lookalike)+len(pad))))
		w.WriteHeader(http.StatusBadRequest)
		for range 3 {
			_, _ = io.WriteString(w, lookalike+pad)
			_ = http.NewResponseController(w).Flush()
		}
	}, options)
	c, r := dial(t, address)
	for range 3 {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res := nextResponse(t, r)
		body, _ := io.ReadAll(res.Body)
		if string(body) != strings.Repeat(lookalike+pad, 3) {
			t.Fatalf("%.300q…", body)
		}
	}
	_, _ = io.WriteString(c, "malformed\r\n\r\n") // after valid requests on the same connection
	if res := nextResponse(t, r); res.StatusCode != 400 || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	tunnel, r := dial(t, address)
	_, _ = io.WriteString(tunnel, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	if data, err := io.ReadAll(r); string(data) != lookalike || err != nil {
		t.Errorf("received %q through the tunnel, %v", data, err)
	}
}
