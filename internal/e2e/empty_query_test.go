package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// A target that ends with a question mark is another target than the one without it, also for the cache and in the queue. A
// cached response to GET answers HEAD.
func TestEmptyQueryIsPartOfTheTarget(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"auto", "net_http"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			u := startWireUpstream(t, say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello", true))
			p := startProxy(t, options{config: "server: " + by + "\nroutes: {svc: {prefix: /svc, transport: " + by + `, upstream: '` + u.url() + `'}}
fallbacks: {svc: {try: [cache, queue, upstream], queue: {methods: [POST]}, upstream: {url: '` + u.url() + `'}}}
`})
			ask := func(method, target string) response {
				return p.ask(method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			}
			if r := ask("GET", "/svc/x?"); r.status != 200 || u.last() != "GET /x? HTTP/1.1" {
				t.Errorf("got %+v, the upstream saw %q", r, u.last())
			}
			p.force("svc", `{"state":"open"}`)
			if r := ask("GET", "/svc/x"); r.header.Get("X-Fallback") != "upstream" || u.last() != "GET /x HTTP/1.1" {
				t.Errorf("/x is answered as /x?: %+v", r)
			}
			if r := ask("GET", "/svc/x?"); r.status != 200 || r.body != "hello" || r.header.Get("X-Fallback") != "cache" {
				t.Errorf("/x?: %+v", r)
			}
			head, err := http.NewRequest(http.MethodHead, p.data+"/svc/x?", nil)
			if err != nil {
				t.Fatal(err)
			}
			head.Host = "x"
			res, err := http.DefaultClient.Do(head)
			if r := read(t, res, err); r.status != 200 || r.body != "" || r.header.Get("X-Fallback") != "cache" || r.header.Get("Content-Length") != "5" || r.header.Get("Etag") != `"1"` {
				t.Errorf("HEAD: %+v", r)
			}
			if r := ask("PUT", "/svc/z?"); r.status != 200 || r.header.Get("X-Fallback") != "upstream" || u.last() != "PUT /z? HTTP/1.1" {
				t.Errorf("got %+v, the second upstream saw %q", r, u.last())
			}
			if r := ask("POST", "/svc/y?"); r.status != http.StatusAccepted {
				t.Errorf("%+v", r)
			}
			p.force("svc", `{"state":"auto"}`)
			eventually(t, "the queued request is delivered", func() bool { return strings.HasPrefix(u.last(), "POST") })
			if u.last() != "POST /y? HTTP/1.1" {
				t.Errorf("the upstream saw %q", u.last())
			}
		})
	}
}
