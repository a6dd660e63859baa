package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	_ "cbproxy/fallbacks/standard"
)

func TestPathAndQueryReachTheUpstreamUnchanged(t *testing.T) {
	var target string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { target = r.RequestURI }))
	defer upstream.Close()
	_, address, recorded := start(t, fmt.Sprintf(`
routes:
  plain: {prefix: /plain, upstream: %[1]s}
  unstripped: {prefix: [/unstripped, /also/unstripped], strip_prefix: false, upstream: %[1]s}
  based: {prefix: /based, upstream: "%[1]s/base/"}
  root: {prefix: /, upstream: %[1]s}
`, upstream.URL))
	for in, want := range map[string]string{
		"/plain":                      "/",
		"/plain/":                     "/",
		"/plain/a/b":                  "/a/b",
		"/plain?":                     "/?",
		"/plain/a%2Fb%20c?x=%zz;y&&=": "/a%2Fb%20c?x=%zz;y&&=",
		"/plain/a|b^c\"<>`{}":         "/a|b^c\"<>`{}",
		"/plain//a///b/":              "//a///b/",
		"/pl%61in/x":                  "/x",
		"/plain/..a/.b/c../...":       "/..a/.b/c../...",
		"/plain/\xc3\xa9":             "/\xc3\xa9",
		"/unstripped/x?y":             "/unstripped/x?y",
		"/also/unstripped":            "/also/unstripped",
		"/based":                      "/base",
		"/based/x":                    "/base/x",
		"/plainer/x":                  "/plainer/x", // prefixes match whole segments: this is a request to root
		"/":                           "/",
		"/plain/?" + strings.Repeat("a=1&", 12000): "/?" + strings.Repeat("a=1&", 12000),
	} {
		target = "none"
		if status := rawStatusLine(t, address, "GET "+in+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(status, " 200 ") {
			t.Errorf("%.60q: %s", in, status)
			continue
		}
		recorded.next(t)
		if target != want {
			t.Errorf("%.60q reached the upstream as %.60q, want %.60q", in, target, want)
		}
	}
}

// Requests with ambiguous paths, with CONNECT or with too large a header section are rejected and not forwarded.
func TestDisallowedRequestsAreRejected(t *testing.T) {
	forwarded := 0
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { forwarded++ }))
	defer upstream.Close()
	_, address, _ := start(t, "limits: {header_bytes: 1KiB}\nroutes: {root: {prefix: /, upstream: "+upstream.URL+"}}")
	for request, want := range map[string]string{
		"GET /a/../b":           "400",
		"GET /a/..":             "400",
		"GET /./a":              "400",
		"GET /a/%2e%2E/b":       "400",
		"GET /a/.%2e":           "400",
		"GET /a/%252e%252e/b":   "400",
		"GET /a%2f..%2fb":       "400",
		"GET /a/..;x=1/b":       "400",
		"GET /a\\b":             "400",
		"GET /a%5cb":            "400",
		"GET /a%00b":            "400",
		"GET /a#b":              "400",
		"GET http://other/../b": "400",
		"CONNECT other:80":      "405",
		"CONNECT /a":            "405",
		"GET /a HTTP/1.1\r\nX-Large: " + strings.Repeat("x", 2000):    "431",
		"GET /a HTTP/1.1\r\nX-Large: " + strings.Repeat("x", 100<<10): "431",
	} {
		if !strings.Contains(request, " HTTP/1.1") {
			request += " HTTP/1.1"
		}
		status := rawStatusLine(t, address, request+"\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.Contains(status, " "+want+" ") {
			t.Errorf("%.60q: %s, want %s", request, status, want)
		}
	}
	if forwarded != 0 {
		t.Errorf("%d requests reached the upstream", forwarded)
	}
}
