package e2e

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// shadowCases are requests whose answers differ in all that a proxy might lay its hands on. Each is answered
// by the rule with its path.
var shadowCases = []struct {
	method, path, body string
	header             map[string]string
	rule               rule
}{
	{"GET", "/plain", "", nil, rule{Status: 200, Body: "plain", Headers: map[string]string{"Content-Type": "text/plain"}}},
	{"GET", "/query?a=1;b=%zz&&c", "", map[string]string{"Accept-Encoding": "gzip", "Cookie": "a=b; c=d"}, rule{Status: 200, Body: "{}"}},
	{"POST", "/post", `{"question":"…"}`, map[string]string{"Content-Type": "application/json", "Authorization": "Bearer x"}, rule{Status: 201, Headers: map[string]string{"Location": "/elsewhere", "Set-Cookie": "s=1; HttpOnly"}}},
	{"HEAD", "/head", "", nil, rule{Status: 200, Headers: map[string]string{"Content-Length": "1234", "Etag": `"x"`}}},
	{"DELETE", "/gone", "", nil, rule{Status: 204}},
	{"GET", "/missing", "", nil, rule{Status: 404, Body: "nothing"}},
	{"GET", "/limited", "", nil, rule{Status: 429, Headers: map[string]string{"Retry-After": "7"}}},
	{"GET", "/broken", "", nil, rule{Status: 500, Body: `{"error":"broken"}`, Headers: map[string]string{"Content-Type": "application/json"}}},
	{"POST", "/busy", "x", nil, rule{Status: 503, Body: "later", Headers: map[string]string{"Retry-After": "3"}}},
	{"GET", "/binary", "", nil, rule{Status: 200, Body: "\x1f\x8b\x00\x01", Headers: map[string]string{"Content-Encoding": "gzip", "Cache-Control": "no-store"}}},
	{"PUT", "/large", strings.Repeat("up ", 50_000), nil, rule{Status: 200, Body: strings.Repeat("down ", 50_000)}},
}

// In shadow, without a fallback, the answer is the upstream's and the upstream's request is the client's, to
// the byte, but for the fields that say who passed it on: whatever the answer is, and also while the breaker
// would have refused.
func TestShadowAltersNothing(t *testing.T) {
	t.Parallel()
	u := startRecorder(t)
	var rules []rule
	for _, c := range shadowCases {
		path, _, _ := strings.Cut(c.path, "?")
		c.rule.In = " " + path
		rules = append(rules, c.rule)
	}
	u.answer(rules...)
	p := startProxy(t, options{config: fmt.Sprintf("routes: {rag_service: {upstream: %s, fallback_enabled: false, breaker: {mode: shadow, fail_max: 3, recovery_timeout: 600}}}\n", u.url())})
	for _, state := range []string{"closed", "open"} {
		for _, c := range shadowCases {
			send := func(base string) response {
				t.Helper()
				r, err := http.NewRequest(c.method, base+c.path, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Request-Id", rand.Text())
				for name, value := range c.header {
					r.Header.Set(name, value)
				}
				res, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
				return read(t, res, err)
			}
			direct := send(u.url())
			through := send(p.data + "/rag")
			if got := through.state(); got != state {
				t.Fatalf("%s: the breaker is %s, want %s", c.path, got, state)
			}
			sameResponse(t, c.path, direct, through)
			all := u.records()
			sameRequest(t, c.path, all[len(all)-2], all[len(all)-1])
		}
		for range 3 {
			if r := p.get("/rag/broken"); r.status != 500 {
				t.Errorf("%+v", r)
			}
		}
	}
	if n := p.metric(`cbproxy_shadow_rejections_total{reason="open",service="rag_service"}`); n < float64(len(shadowCases)) {
		t.Errorf("%v would have been refused", n)
	}
}

func sameResponse(t *testing.T, path string, direct, through response) {
	t.Helper()
	for _, name := range []string{"X-Circuit-Breaker-Service", "X-Circuit-Breaker-State"} {
		if through.header.Get(name) == "" {
			t.Errorf("%s: no %s", path, name)
		}
		through.header.Del(name)
	}
	for _, r := range []response{direct, through} {
		if r.header.Get("Date") == "" {
			t.Errorf("%s: no Date", path)
		}
		r.header.Del("Date")       // when it was answered
		r.header.Del("Connection") // of each hop
	}
	if direct.status != through.status || direct.body != through.body || !maps.EqualFunc(direct.header, through.header, slices.Equal) {
		t.Errorf("%s: %d %v\nthrough the proxy: %d %v", path, direct.status, direct.header, through.status, through.header)
	}
}

func sameRequest(t *testing.T, path string, direct, through record) {
	t.Helper()
	for name := range through.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "Via" {
			through.Header.Del(name)
		}
	}
	for _, r := range []record{direct, through} {
		r.Header.Del("X-Request-Id")
		r.Header.Del("Connection")
	}
	if direct.Method != through.Method || direct.RequestURI != through.RequestURI || direct.Host != through.Host || direct.body != through.body ||
		direct.ContentLength != through.ContentLength || !maps.EqualFunc(direct.Header, through.Header, slices.Equal) {
		t.Errorf("%s: the upstream got %s %s %s %v\nthrough the proxy: %s %s %s %v", path, direct.Method, direct.RequestURI, direct.Host, direct.Header,
			through.Method, through.RequestURI, through.Host, through.Header)
	}
}
