package e2e

import (
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestTargetReachesTheUpstreamUnchanged checks that the upstream receives the target byte for byte, without
// the prefix.
func TestTargetReachesTheUpstreamUnchanged(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true))
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: '" + u.URL() + "'}}\n"})
	for target, want := range map[string]string{
		"/svc":                        "/",
		"/svc?":                       "/?",
		"/svc/?%":                     "/?%",
		"/svc/x?a=1;b=2&%zz&c=%00":    "/x?a=1;b=2&%zz&c=%00",
		"/svc/a%2Fb%2fc%41":           "/a%2Fb%2fc%41",
		"/svc/a\"b<c>|{}^`":           "/a\"b<c>|{}^`",
		"/svc/\xc3\xa9\xff":           "/\xc3\xa9\xff",
		"/svc/x/":                     "/x/",
		"/svc//x//y":                  "//x//y",
		"/svc//x%2Fy":                 "//x%2Fy",
		"/svc//\"x%2Fy":               "//%22x%2Fy", // after // invalid characters are encoded
		"/svc//\xc3\xa9":              "//%C3%A9",
		"/svc/;a=1,b=$&'()*+:@!":      "/;a=1,b=$&'()*+:@!",
		"http://x/svc/a%2Fb?q":        "/a%2Fb?q",
		"http://x/svc/a\"b%2Fc?q=\"%": "/a\"b%2Fc?q=\"%",
		"/svc/...":                    "/...",
		"/svc/.hidden/..a":            "/.hidden/..a",
	} {
		r := p.SendRaw("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := u.LastRequestLine(); r.Status != 200 || got != "GET "+want+" HTTP/1.1" {
			t.Errorf("%q: status %d, the upstream saw %q", target, r.Status, got)
		}
	}
}

// TestPathTraversalIsRejected checks that no upstream receives a path that other parsers may resolve to one
// outside its prefix.
func TestPathTraversalIsRejected(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true))
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: [/svc, /], upstream: '" + u.URL() + "'}}\n"})
	for _, path := range []string{
		"/svc/..", "/svc/../x", "/svc/.", "/svc/./x", "/svc/%2e%2e", "/svc/%2E%2E/x", "/svc/.%2e/x", "/svc/%2e./x", "/svc/%2e",
		"/svc/..%2fx", "/svc/x%2f..%2fy", "/svc/%2e%2e%2f", "/svc/%252e%252e/x", "/svc/..;/x", "/svc/..;a=b/x", "/svc/%2e%2e;/x",
		"/svc/a\\b", "/svc/a%5cb", "/svc/..\\x", "/svc/..%5cx", "/svc/a%255cb", "/svc/a%00b", "/svc/%00", "/svc/a%2500b", "/svc/\x00",
		"/svc/x#y", "/..", "/../svc", "http://x/svc/../y", "http://x/svc/%2e%2e/y", "http://x/svc/a%5cb",
	} {
		if r := p.SendRaw("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"); r.Status != 400 {
			t.Errorf("%q: status %d", path, r.Status)
		}
	}
	for _, target := range []string{"x:443", "/svc/x"} {
		if r := p.SendRaw("CONNECT " + target + " HTTP/1.1\r\nHost: x:443\r\n\r\n"); r.Status < 400 {
			t.Errorf("CONNECT %s: status %d", target, r.Status)
		}
	}
	if lines := u.RequestLines(); len(lines) > 0 {
		t.Errorf("the upstream saw %q", lines)
	}
	if got := p.RequestCounts("svc"); got["failure"] != 0 {
		t.Errorf("requests %v", got)
	}
}
