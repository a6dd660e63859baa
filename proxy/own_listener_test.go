package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"cbproxy/proxy"
	"cbproxy/routes"
)

// serveListener serves the own listener that the service svc has in c.
func serveListener(t *testing.T, s *proxy.Server, c *routes.Config) (address string) {
	t.Helper()
	l := httptest.NewServer(s.ListenerHandler(c.Routes["svc"].ListenerKey("svc")))
	t.Cleanup(l.Close)
	return l.Listener.Addr().String()
}

// echoTarget responds with the name and the target of each request, and X-Forwarded-Prefix.
func echoTarget(t *testing.T, name string) (url string) {
	t.Helper()
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, name, " ", r.RequestURI, " ", r.Header.Get("X-Forwarded-Prefix"))
	}))
	t.Cleanup(u.Close)
	return u.URL
}

// TestOwnListenerForwardsEveryPathAsItIs checks that all paths on an own listener belong to the service and keep their prefix,
// and that requests are validated there as well.
func TestOwnListenerForwardsEveryPathAsItIs(t *testing.T) {
	text := routeConfig(echoTarget(t, "u")+"/base", "listen: 127.0.0.1:8101") + "  other: {prefix: /other, upstream: 'http://127.0.0.1:1'}\n"
	server, address, _ := startInstance(t, "me", text)
	own := serveListener(t, server, parse(t, text))
	for _, path := range []string{"/", "/svc", "/svc/x", "/other/x?a=%2F&b", "/%73vc//x"} {
		if res, body := get(t, "http://"+own+path); res.StatusCode != 200 || body != "u /base"+path+" " || res.Header.Get("X-Circuit-Breaker-Service") != "svc" {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
	if _, body := get(t, "http://"+address+"/svc/x"); body != "u /base/x /svc" {
		t.Errorf("below the prefix: %q", body)
	}
	for request, status := range map[string]int{
		"GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n":            400,
		"GET /a HTTP/1.1\r\nHost: a\r\nVia: 1.1 me\r\n\r\n":      508,
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n":            405,
		"GET http://elsewhere/other HTTP/1.1\r\nHost: a\r\n\r\n": 200,
	} {
		c, r := dial(t, own)
		_, _ = io.WriteString(c, request)
		line := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(r, line); err != nil || string(line) != fmt.Sprint("HTTP/1.1 ", status) {
			t.Errorf("%q: %q, %v", request, line, err)
		}
	}
}

// TestOwnListenerAfterReloads checks whose requests a listener gets: those of its service in the current configuration, and after
// a reload that closes it, those of the service that had it.
func TestOwnListenerAfterReloads(t *testing.T) {
	u := echoTarget(t, "u")
	v := echoTarget(t, "v")
	config := func(svc, other string) string {
		return fmt.Sprintf("routes:\n  svc: {prefix: /svc, upstream: %q, listen: %q}\n  other: {prefix: /other, upstream: %q, listen: %q}\n", u, svc, v, other)
	}
	server, _, _ := start(t, config("127.0.0.1:8101", ""))
	own := serveListener(t, server, parse(t, config("127.0.0.1:8101", "")))
	for _, c := range []struct{ text, want string }{
		{config("127.0.0.1:8101", ""), "u /x "},
		{config("127.0.0.1:8102", ""), "u /x "}, // closed
		{config("127.0.0.1:8102", "127.0.0.1:8101"), "v /x "},
		{config("127.0.0.1:8102", "127.0.0.1:8103"), "v /x "}, // closed
		{strings.Replace(config("127.0.0.1:8102", ""), "  other", "  third", 1), ""},
	} {
		if err := server.Apply(parse(t, c.text)); err != nil {
			t.Fatal(err)
		}
		res, body := get(t, "http://"+own+"/x")
		if c.want == "" && res.StatusCode != 404 || c.want != "" && body != c.want {
			t.Errorf("%s: %d %q, want %q", c.text, res.StatusCode, body, c.want)
		}
	}
}

// TestOwnListenerSharesNoCachedResponses checks that the cache distinguishes a path on the own listener from the same path below
// the prefix, which is another resource of the upstream.
func TestOwnListenerSharesNoCachedResponses(t *testing.T) {
	var failing atomic.Bool
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}))
	t.Cleanup(upstream.Close)
	text := routeConfig(upstream.URL, "listen: 127.0.0.1:8101") + "fallbacks: {svc: {when: [status], try: [cache]}}\n"
	server, address, _ := start(t, text)
	own := serveListener(t, server, parse(t, text))
	request := func(at string) (status int, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/svc/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "same"
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		content, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(content)
	}
	if status, body := request(address); status != 200 || body != "/x" {
		t.Fatal(status, body)
	}
	failing.Store(true)
	if status, body := request(own); status != 502 {
		t.Errorf("on the own listener: %d %q", status, body)
	}
	if status, body := request(address); status != 200 || body != "/x" {
		t.Errorf("from the cache: %d %q", status, body)
	}
}
