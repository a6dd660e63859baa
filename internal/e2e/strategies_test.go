package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// fallbackRoute returns the configuration of a service svc with its own fallback.
func fallbackRoute(u *harness.Upstream, try, options string) string {
	return fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, timeout: 5, breaker: {fail_max: 2, recovery_timeout: 60}}}
fallbacks: {svc: {when: [open, connect, timeout, reset, status], try: [%s], %s}}
`, u.URL(), try, options)
}

// checkFallback checks that the strategy responded with the given status.
func checkFallback(t *testing.T, r harness.Response, strategy string, status int) {
	t.Helper()
	if r.Status != status || r.Header.Get("X-Fallback") != strategy {
		t.Errorf("want %d by %s: %+v", status, strategy, r)
	}
}

// TestCacheRespondsWhenUpstreamIsDown checks that a cached response is used only for the same request with the same
// credentials and body, and that a response with no-store is not cached.
func TestCacheRespondsWhenUpstreamIsDown(t *testing.T) {
	t.Parallel()
	u := harness.StartRecorder(t)
	u.SetRules(
		harness.Rule{In: "GET /private", Status: 200, Body: "private", Headers: map[string]string{"Cache-Control": "no-store"}},
		harness.Rule{In: "Authorization: alice", Status: 200, Body: "alice's", Headers: map[string]string{"Set-Cookie": "id=alice", "X-Circuit-Breaker-State": "spoofed"}},
		harness.Rule{In: "question=1", Status: 200, Body: "one"},
		harness.Rule{Status: 200, Body: "public", Headers: map[string]string{"X-Custom": "value"}},
	)
	config := fallbackRoute(u.Upstream, "cache, static", "static: {status: 503, body: none}")
	p := harness.StartProxy(t, harness.Options{Config: config})
	p.Get("/svc/a?b=%")
	p.Get("/svc/private")
	p.Send("GET", "/svc/mine", "", "Authorization", "alice")
	p.Send("POST", "/svc/ask", "question=1")
	u.Kill()
	p.ReplaceConfig(strings.Replace(config, "timeout: 5", "timeout: 6", 1)) // the cache survives the reload
	harness.Eventually(t, "the new configuration is applied", func() bool { return timeoutOf(p) == 6 })
	for _, state := range []string{"closed", "closed", "open"} {
		r := p.Get("/svc/a?b=%")
		checkFallback(t, r, "cache", 200)
		if r.Body != "public" || r.Header.Get("Age") == "" || r.Header.Get("X-Custom") != "value" || r.BreakerState() != state {
			t.Errorf("cached response %+v", r)
		}
	}
	mine := p.Send("GET", "/svc/mine", "", "Authorization", "alice")
	checkFallback(t, mine, "cache", 200)
	if mine.Body != "alice's" || mine.Header.Get("Set-Cookie") != "" {
		t.Errorf("cached response to alice %+v", mine)
	}
	posted := p.Send("POST", "/svc/ask", "question=1")
	checkFallback(t, posted, "cache", 200)
	if posted.Body != "one" {
		t.Errorf("cached response to POST %+v", posted)
	}
	checkFallback(t, p.Send("GET", "/svc/mine", "", "Authorization", "bob"), "static", 503)
	checkFallback(t, p.Get("/svc/mine"), "static", 503)
	checkFallback(t, p.Get("/svc/private"), "static", 503)
	checkFallback(t, p.Get("/svc/a?b=other"), "static", 503)
	checkFallback(t, p.Send("POST", "/svc/ask", "question=2"), "static", 503)
}

// TestSecondUpstreamResponds checks the request that the strategy upstream sends, and that its response replaces the
// first upstream's.
func TestSecondUpstreamResponds(t *testing.T) {
	t.Parallel()
	u, second := harness.StartRecorder(t), harness.StartRecorder(t)
	u.SetRules(harness.Rule{Status: 500, Body: "broken", Headers: map[string]string{"X-First": "secret", "Set-Cookie": "first=1"}})
	second.SetRules(
		harness.Rule{In: "/missing", Status: 404, Body: "no such thing", Headers: map[string]string{"X-Second": "there"}},
		harness.Rule{In: "/broken", Status: 502},
		harness.Rule{Status: 201, Body: "made", Headers: map[string]string{"X-Fallback": "spoofed", "X-Second": "there"}})
	p := harness.StartProxy(t, harness.Options{Config: fallbackRoute(u.Upstream, "upstream, static", "upstream: {url: "+second.URL()+"/base}, static: {status: 503, body: none}")})
	body := strings.Repeat("\x00body", 10_000)
	for _, reason := range []string{"status", "status", "open"} {
		r := p.Send("POST", "/svc/a%2Fb?q=%", body, "X-Mine", "1")
		checkFallback(t, r, "upstream", 201)
		if r.Body != "made" || r.Header.Get("X-Second") != "there" || r.Header.Get("X-First") != "" || r.Header.Get("Set-Cookie") != "" ||
			len(r.Header.Values("X-Fallback")) != 1 || r.Header.Get("X-Fallback-Reason") != reason {
			t.Errorf("response of the second upstream %+v", r)
		}
	}
	missing := p.Get("/svc/missing")
	checkFallback(t, missing, "upstream", 404)
	if missing.Body != "no such thing" {
		t.Errorf("response of the second upstream %+v", missing)
	}
	checkFallback(t, p.Get("/svc/broken"), "static", 503)
	received := second.Records()
	if len(received) != 5 || len(u.Records()) != 2 {
		t.Fatalf("%d requests reached the second upstream, %d the first", len(received), len(u.Records()))
	}
	if q := received[0]; q.Method != "POST" || q.RequestURI != "/base/a%2Fb?q=%" || q.BodyText != body || q.Header.Get("X-Mine") != "1" || q.Host != second.Address {
		t.Errorf("%s %s to %s with %d bytes, %v", q.Method, q.RequestURI, q.Host, len(q.BodyText), q.Header)
	}
	second.Kill()
	checkFallback(t, p.Get("/svc/x"), "static", 503)
}

// TestEndpointResponds checks the description of the request that the strategy http sends to its endpoint, and the
// response that the endpoint describes.
func TestEndpointResponds(t *testing.T) {
	t.Parallel()
	u, endpoint := harness.NewRecorder(t), harness.StartRecorder(t)
	endpoint.SetRules(
		harness.Rule{In: "/svc/none", Status: 204},
		harness.Rule{In: "/svc/nonsense", Status: 200, Body: `{"status": 9}`},
		harness.Rule{Status: 200, Body: `{"status": 203, "headers": {"X-Mine": "1"}, "body": {"n": 1.0}}`})
	p := harness.StartProxy(t, harness.Options{Config: fallbackRoute(u.Upstream, "http, static", "http: {url: "+endpoint.URL()+"/decide, headers: [X-Allowed]}, static: {status: 503, body: none}")})
	r := p.Send("POST", "/svc/a%2Fb?q=%", "the body", "X-Allowed", "allowed", "Authorization", "s3cret")
	checkFallback(t, r, "http", 203)
	if r.Body != `{"n": 1.0}` || r.Header.Get("X-Mine") != "1" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("response of the endpoint %+v", r)
	}
	checkFallback(t, p.Get("/svc/none"), "static", 503)
	checkFallback(t, p.Get("/svc/nonsense"), "static", 503)
	q := endpoint.Records()[0]
	var envelope struct {
		Service, Reason, Method, Path, Query, Body string
		Headers                                    map[string][]string
	}
	if err := json.Unmarshal([]byte(q.BodyText), &envelope); err != nil || q.Method != "POST" || q.RequestURI != "/decide" {
		t.Errorf("%s %s: %s, %v", q.Method, q.RequestURI, q.BodyText, err)
	}
	if envelope.Service != "svc" || envelope.Reason != "connect" || envelope.Method != "POST" || envelope.Path != "/svc/a%2Fb" || envelope.Query != "q=%" ||
		envelope.Body != "the body" || len(envelope.Headers) != 1 || envelope.Headers["X-Allowed"][0] != "allowed" {
		t.Errorf("the endpoint received %+v", envelope)
	}
	endpoint.Kill()
	checkFallback(t, p.Get("/svc/x"), "static", 503)
}

// TestTemplateResponds checks that a template can use the request, and that values are encoded as JSON.
func TestTemplateResponds(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: fallbackRoute(u.Upstream, "template", `template: {status: 202, headers: {X-Mine: "1"},
  body: {about: "{{service}} {{reason}} {{method}}", id: "{{json \"order.id\"}}", name: "{{query \"name\" | default \"unknown\"}}", none: "{{header \"X-None\"}}"}}`)})
	r := p.Send("POST", "/svc/x?name=%22%7D", `{"order": {"id": 12345678901234567890}}`)
	checkFallback(t, r, "template", 202)
	if want := `{"about":"svc connect POST","id":12345678901234567890,"name":"\"}","none":null}`; r.Body != want || r.Header.Get("X-Mine") != "1" {
		t.Errorf("%+v, want %s", r, want)
	}
}

// TestStrategiesAreTriedInOrder checks that strategies are tried in the configured order until one has a
// response.
func TestStrategiesAreTriedInOrder(t *testing.T) {
	t.Parallel()
	u, second := harness.StartRecorder(t), harness.NewRecorder(t)
	u.SetRules(harness.Rule{In: "/known", Status: 200, Body: "known"})
	p := harness.StartProxy(t, harness.Options{Config: fallbackRoute(u.Upstream, "cache, upstream, queue, static",
		"queue: {methods: [PUT], body: {queued: true}}, upstream: {url: "+second.URL()+", breaker: {fail_max: 1, recovery_timeout: 0.2}}, static: {status: 503, body: none}")})
	p.Get("/svc/known")
	u.Kill()
	for _, c := range []struct {
		method, path, strategy string
		status                 int
	}{
		{"GET", "/svc/known", "cache", 200},
		{"GET", "/svc/unknown", "static", 503},
		{"PUT", "/svc/unknown", "queue", http.StatusAccepted},
	} {
		checkFallback(t, p.Send(c.method, c.path, ""), c.strategy, c.status)
	}
	second.Start()
	t.Cleanup(second.Kill)
	harness.Eventually(t, "the second upstream responds again", func() bool { return p.Get("/svc/unknown").Header.Get("X-Fallback") == "upstream" })
	checkFallback(t, p.Get("/svc/known"), "cache", 200)
	checkFallback(t, p.Send("PUT", "/svc/unknown", ""), "upstream", 200)
	if n := p.Metric(`enhanced_circuit_breaker_fallbacks_total{reason="open",service="svc",strategy="upstream"}`); n < 2 {
		t.Errorf("%v responses of the second upstream are counted", n)
	}
}
