package e2e

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// shadowCases are requests and responses that differ in everything that a proxy might change. The upstream responds
// according to the rule with the request's path.
var shadowCases = []struct {
	method, path, body string
	header             map[string]string
	rule               harness.Rule
}{
	{"GET", "/plain", "", nil, harness.Rule{Status: 200, Body: "plain", Headers: map[string]string{"Content-Type": "text/plain"}}},
	{"GET", "/query?a=1;b=%zz&&c", "", map[string]string{"Accept-Encoding": "gzip", "Cookie": "a=b; c=d"}, harness.Rule{Status: 200, Body: "{}"}},
	{"POST", "/post", `{"question":"…"}`, map[string]string{"Content-Type": "application/json", "Authorization": "Bearer x"}, harness.Rule{Status: 201, Headers: map[string]string{"Location": "/elsewhere", "Set-Cookie": "s=1; HttpOnly"}}},
	{"HEAD", "/head", "", nil, harness.Rule{Status: 200, Headers: map[string]string{"Content-Length": "1234", "Etag": `"x"`}}},
	{"DELETE", "/gone", "", nil, harness.Rule{Status: 204}},
	{"GET", "/missing", "", nil, harness.Rule{Status: 404, Body: "nothing"}},
	{"GET", "/limited", "", nil, harness.Rule{Status: 429, Headers: map[string]string{"Retry-After": "7"}}},
	{"GET", "/broken", "", nil, harness.Rule{Status: 500, Body: `{"error":"broken"}`, Headers: map[string]string{"Content-Type": "application/json"}}},
	{"POST", "/busy", "x", nil, harness.Rule{Status: 503, Body: "later", Headers: map[string]string{"Retry-After": "3"}}},
	{"GET", "/binary", "", nil, harness.Rule{Status: 200, Body: "\x1f\x8b\x00\x01", Headers: map[string]string{"Content-Encoding": "gzip", "Cache-Control": "no-store"}}},
	{"PUT", "/large", strings.Repeat("up ", 50_000), nil, harness.Rule{Status: 200, Body: strings.Repeat("down ", 50_000)}},
}

// TestShadowModeForwardsUnchanged checks that in shadow mode, without a fallback, requests and responses are forwarded
// byte for byte, except for the fields that describe the proxy, whether the breaker is closed or open.
func TestShadowModeForwardsUnchanged(t *testing.T) {
	t.Parallel()
	u := harness.StartRecorder(t)
	var rules []harness.Rule
	for _, c := range shadowCases {
		path, _, _ := strings.Cut(c.path, "?")
		c.rule.In = " " + path
		rules = append(rules, c.rule)
	}
	u.SetRules(rules...)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {rag_service: {upstream: %s, fallback_enabled: false, breaker: {mode: shadow, fail_max: 3, recovery_timeout: 600}}}\n", u.URL())})
	for _, state := range []string{"closed", "open"} {
		for _, c := range shadowCases {
			send := func(base string) harness.Response {
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
				return harness.ReadResponse(t, res, err)
			}
			direct := send(u.URL())
			if path := direct.Header.Get("Location"); path != "" {
				direct.Header.Set("Location", "/rag"+path) // leads through the proxy
			}
			proxied := send(p.URL + "/rag")
			if got := proxied.BreakerState(); got != state {
				t.Fatalf("%s: the breaker is %s, want %s", c.path, got, state)
			}
			checkSameResponse(t, c.path, direct, proxied)
			all := u.Records()
			checkSameRequest(t, c.path, all[len(all)-2], all[len(all)-1])
		}
		for range 3 {
			if r := p.Get("/rag/broken"); r.Status != 500 {
				t.Errorf("response %+v, want status 500", r)
			}
		}
	}
	if n := p.Metric(`cbproxy_shadow_rejections_total{reason="open",service="rag_service"}`); n < float64(len(shadowCases)) {
		t.Errorf("%v shadow rejections, want at least %d", n, len(shadowCases))
	}
}

// checkSameResponse compares the response of the upstream with the one that the proxy forwarded.
func checkSameResponse(t *testing.T, path string, direct, proxied harness.Response) {
	t.Helper()
	for _, name := range []string{"X-Circuit-Breaker-Service", "X-Circuit-Breaker-State"} {
		if proxied.Header.Get(name) == "" {
			t.Errorf("%s: no %s", path, name)
		}
		proxied.Header.Del(name)
	}
	for _, r := range []harness.Response{direct, proxied} {
		if r.Header.Get("Date") == "" {
			t.Errorf("%s: no Date", path)
		}
		r.Header.Del("Date")       // differs between requests
		r.Header.Del("Connection") // hop-by-hop
	}
	if direct.Status != proxied.Status || direct.Body != proxied.Body || !maps.EqualFunc(direct.Header, proxied.Header, slices.Equal) {
		t.Errorf("%s: %d %v\nthrough the proxy: %d %v", path, direct.Status, direct.Header, proxied.Status, proxied.Header)
	}
}

// checkSameRequest compares the client's request with the one that the proxy forwarded.
func checkSameRequest(t *testing.T, path string, direct, proxied harness.Record) {
	t.Helper()
	for name := range proxied.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "Via" {
			proxied.Header.Del(name)
		}
	}
	for _, r := range []harness.Record{direct, proxied} {
		r.Header.Del("X-Request-Id")
		r.Header.Del("Connection")
	}
	if direct.Method != proxied.Method || direct.RequestURI != proxied.RequestURI || direct.Host != proxied.Host || direct.BodyText != proxied.BodyText ||
		direct.ContentLength != proxied.ContentLength || !maps.EqualFunc(direct.Header, proxied.Header, slices.Equal) {
		t.Errorf("%s: the upstream got %s %s %s %v\nthrough the proxy: %s %s %s %v", path, direct.Method, direct.RequestURI, direct.Host, direct.Header,
			proxied.Method, proxied.RequestURI, proxied.Host, proxied.Header)
	}
}

// TestReturnToShadowDeliversQueuedRequests checks that queued requests are delivered after the service's breaker has
// returned from enforced to shadow mode and its fallback is disabled.
func TestReturnToShadowDeliversQueuedRequests(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	config := func(mode string, fallback bool) string {
		return fmt.Sprintf("routes: {notifier_service: {upstream: %s, fallback_enabled: %t, breaker: {mode: %s, fail_max: 1, recovery_timeout: 0.1}}}\n", u.URL(), fallback, mode)
	}
	post := func(p *harness.Proxy, body string) harness.Response {
		t.Helper()
		res, err := http.Post(p.URL+"/notify/x", "text/plain", strings.NewReader(body))
		return harness.ReadResponse(t, res, err)
	}
	p := harness.StartProxy(t, harness.Options{Config: config("enforce", true)})
	for _, body := range []string{"a", "b"} {
		if r := post(p, body); r.Status != http.StatusAccepted || r.Header.Get("X-Fallback") != "queue" {
			t.Errorf("%s: %+v", body, r)
		}
	}
	p.ReplaceConfig(config("shadow", false))
	harness.Eventually(t, "shadow mode is applied", func() bool { return p.Metric(`cbproxy_enforced{service="notifier_service"}`) == 0 })
	if r := post(p, "c"); r.Status != http.StatusBadGateway {
		t.Errorf("response %+v without a fallback, want status 502", r)
	}
	u.Start()
	t.Cleanup(u.Kill)
	if r := post(p, "d"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
		t.Errorf("response %+v, want status 200", r)
	}
	harness.Eventually(t, "the accepted requests are delivered, and no others", func() bool {
		got, more := u.UniqueBodies()
		seen := strings.Join(got, "")
		return more == 0 && len(seen) == 3 && strings.Contains(seen, "a") && strings.Contains(seen, "b") && strings.Contains(seen, "d")
	})
}
