package e2e

import (
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestEmptyQueryIsPreserved checks that a target with an empty query is forwarded, cached and queued unchanged, and is
// not the same as the target without it. It also checks that a cached response to GET is used for HEAD.
func TestEmptyQueryIsPreserved(t *testing.T) {
	t.Parallel()
	for _, implementation := range []string{"auto", "net_http"} {
		t.Run(implementation, func(t *testing.T) {
			t.Parallel()
			u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"1\"\r\n\r\nhello", true))
			p := harness.StartProxy(t, harness.Options{Config: "server: " + implementation + "\nroutes: {svc: {prefix: /svc, transport: " + implementation + `, upstream: '` + u.URL() + `'}}
fallbacks: {svc: {try: [cache, queue, upstream], queue: {methods: [POST]}, upstream: {url: '` + u.URL() + `'}}}
`})
			send := func(method, target string) harness.Response {
				return p.SendRaw(method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			}
			if r := send("GET", "/svc/x?"); r.Status != 200 || u.LastRequestLine() != "GET /x? HTTP/1.1" {
				t.Errorf("got %+v, the upstream saw %q", r, u.LastRequestLine())
			}
			p.Force("svc", `{"state":"open"}`)
			if r := send("GET", "/svc/x"); r.Header.Get("X-Fallback") != "upstream" || u.LastRequestLine() != "GET /x HTTP/1.1" {
				t.Errorf("/x got the cached response of /x?: %+v", r)
			}
			if r := send("GET", "/svc/x?"); r.Status != 200 || r.Body != "hello" || r.Header.Get("X-Fallback") != "cache" {
				t.Errorf("/x?: %+v", r)
			}
			head, err := http.NewRequest(http.MethodHead, p.URL+"/svc/x?", nil)
			if err != nil {
				t.Fatal(err)
			}
			head.Host = "x"
			res, err := http.DefaultClient.Do(head)
			if r := harness.ReadResponse(t, res, err); r.Status != 200 || r.Body != "" || r.Header.Get("X-Fallback") != "cache" || r.Header.Get("Content-Length") != "5" || r.Header.Get("Etag") != `"1"` {
				t.Errorf("HEAD: %+v", r)
			}
			if r := send("PUT", "/svc/z?"); r.Status != 200 || r.Header.Get("X-Fallback") != "upstream" || u.LastRequestLine() != "PUT /z? HTTP/1.1" {
				t.Errorf("got %+v, the second upstream saw %q", r, u.LastRequestLine())
			}
			if r := send("POST", "/svc/y?"); r.Status != http.StatusAccepted {
				t.Errorf("POST: %+v, want status 202", r)
			}
			p.Force("svc", `{"state":"auto"}`)
			harness.Eventually(t, "the queued request is delivered", func() bool { return strings.HasPrefix(u.LastRequestLine(), "POST") })
			if u.LastRequestLine() != "POST /y? HTTP/1.1" {
				t.Errorf("the upstream saw %q", u.LastRequestLine())
			}
		})
	}
}
