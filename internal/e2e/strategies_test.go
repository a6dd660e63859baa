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

// fellBack fails the test unless the strategy responded with the given status.
func checkFallback(r harness.Response, t *testing.T, strategy string, status int) {
	t.Helper()
	if r.Status != status || r.Header.Get("X-Fallback") != strategy {
		t.Errorf("want %d by %s: %+v", status, strategy, r)
	}
}

func TestCacheAnswersWhenUpstreamIsDown(t *testing.T) {
	t.Parallel()
	u := harness.StartRecorder(t)
	u.SetRules(
		harness.Rule{In: "GET /private", Status: 200, Body: "private", Headers: map[string]string{"Cache-Control": "no-store"}},
		harness.Rule{In: "Authorization: alice", Status: 200, Body: "alice's", Headers: map[string]string{"Set-Cookie": "id=alice", "X-Circuit-Breaker-State": "spoofed"}},
		harness.Rule{In: "question=1", Status: 200, Body: "one"},
		harness.Rule{Status: 200, Body: "anybody's", Headers: map[string]string{"X-Kept": "kept"}},
	)
	config := fallbackRoute(u.Upstream, "cache, static", "static: {status: 503, body: none}")
	p := harness.StartProxy(t, harness.Options{Config: config})
	p.Get("/svc/a?b=%")
	p.Get("/svc/private")
	p.Send("GET", "/svc/mine", "", "Authorization", "alice")
	p.Send("POST", "/svc/ask", "question=1")
	u.Kill()
	p.ReplaceConfig(strings.Replace(config, "timeout: 5", "timeout: 6", 1)) // the cache survives the reload
	harness.Eventually(t, "the edit is in force", func() bool { return timeoutOf(p) == 6 })
	for _, state := range []string{"closed", "closed", "open"} {
		r := p.Get("/svc/a?b=%")
		checkFallback(r, t, "cache", 200)
		if r.Body != "anybody's" || r.Header.Get("Age") == "" || r.Header.Get("X-Kept") != "kept" || r.BreakerState() != state {
			t.Errorf("%+v", r)
		}
	}
	mine := p.Send("GET", "/svc/mine", "", "Authorization", "alice")
	checkFallback(mine, t, "cache", 200)
	if mine.Body != "alice's" || mine.Header.Get("Set-Cookie") != "" {
		t.Errorf("%+v", mine)
	}
	asked := p.Send("POST", "/svc/ask", "question=1")
	checkFallback(asked, t, "cache", 200)
	if asked.Body != "one" {
		t.Errorf("%+v", asked)
	}
	checkFallback(p.Send("GET", "/svc/mine", "", "Authorization", "bob"), t, "static", 503)
	checkFallback(p.Get("/svc/mine"), t, "static", 503)
	checkFallback(p.Get("/svc/private"), t, "static", 503)
	checkFallback(p.Get("/svc/a?b=other"), t, "static", 503)
	checkFallback(p.Send("POST", "/svc/ask", "question=2"), t, "static", 503)
}

func TestSecondUpstreamAnswers(t *testing.T) {
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
		checkFallback(r, t, "upstream", 201)
		if r.Body != "made" || r.Header.Get("X-Second") != "there" || r.Header.Get("X-First") != "" || r.Header.Get("Set-Cookie") != "" ||
			len(r.Header.Values("X-Fallback")) != 1 || r.Header.Get("X-Fallback-Reason") != reason {
			t.Errorf("%+v", r)
		}
	}
	missing := p.Get("/svc/missing")
	checkFallback(missing, t, "upstream", 404)
	if missing.Body != "no such thing" {
		t.Errorf("%+v", missing)
	}
	checkFallback(p.Get("/svc/broken"), t, "static", 503)
	asked := second.Records()
	if len(asked) != 5 || len(u.Records()) != 2 {
		t.Fatalf("%d requests reached the second upstream, %d the first", len(asked), len(u.Records()))
	}
	if q := asked[0]; q.Method != "POST" || q.RequestURI != "/base/a%2Fb?q=%" || q.BodyText != body || q.Header.Get("X-Mine") != "1" || q.Host != second.Address {
		t.Errorf("%s %s to %s with %d bytes, %v", q.Method, q.RequestURI, q.Host, len(q.BodyText), q.Header)
	}
	second.Kill()
	checkFallback(p.Get("/svc/x"), t, "static", 503)
}

func TestEndpointAnswers(t *testing.T) {
	t.Parallel()
	u, endpoint := harness.NewRecorder(t), harness.StartRecorder(t)
	endpoint.SetRules(
		harness.Rule{In: "/svc/none", Status: 204},
		harness.Rule{In: "/svc/nonsense", Status: 200, Body: `{"status": 9}`},
		harness.Rule{Status: 200, Body: `{"status": 203, "headers": {"X-Mine": "1"}, "body": {"n": 1.0}}`})
	p := harness.StartProxy(t, harness.Options{Config: fallbackRoute(u.Upstream, "http, static", "http: {url: "+endpoint.URL()+"/decide, headers: [X-Told]}, static: {status: 503, body: none}")})
	r := p.Send("POST", "/svc/a%2Fb?q=%", "the body", "X-Told", "told", "Authorization", "s3cret")
	checkFallback(r, t, "http", 203)
	if r.Body != `{"n": 1.0}` || r.Header.Get("X-Mine") != "1" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", r)
	}
	checkFallback(p.Get("/svc/none"), t, "static", 503)
	checkFallback(p.Get("/svc/nonsense"), t, "static", 503)
	q := endpoint.Records()[0]
	var asked struct {
		Service, Reason, Method, Path, Query, Body string
		Headers                                    map[string][]string
	}
	if err := json.Unmarshal([]byte(q.BodyText), &asked); err != nil || q.Method != "POST" || q.RequestURI != "/decide" {
		t.Errorf("%s %s: %s, %v", q.Method, q.RequestURI, q.BodyText, err)
	}
	if asked.Service != "svc" || asked.Reason != "connect" || asked.Method != "POST" || asked.Path != "/svc/a%2Fb" || asked.Query != "q=%" ||
		asked.Body != "the body" || len(asked.Headers) != 1 || asked.Headers["X-Told"][0] != "told" {
		t.Errorf("asked %+v", asked)
	}
	endpoint.Kill()
	checkFallback(p.Get("/svc/x"), t, "static", 503)
}

func TestTemplateAnswers(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: fallbackRoute(u.Upstream, "template", `template: {status: 202, headers: {X-Mine: "1"},
  body: {about: "{{service}} {{reason}} {{method}}", id: "{{json \"order.id\"}}", name: "{{query \"name\" | default \"nobody\"}}", none: "{{header \"X-None\"}}"}}`)})
	r := p.Send("POST", "/svc/x?name=%22%7D", `{"order": {"id": 12345678901234567890}}`)
	checkFallback(r, t, "template", 202)
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
		checkFallback(p.Send(c.method, c.path, ""), t, c.strategy, c.status)
	}
	second.Start()
	t.Cleanup(second.Kill)
	harness.Eventually(t, "the second upstream is asked again", func() bool { return p.Get("/svc/unknown").Header.Get("X-Fallback") == "upstream" })
	checkFallback(p.Get("/svc/known"), t, "cache", 200)
	checkFallback(p.Send("PUT", "/svc/unknown", ""), t, "upstream", 200)
	if n := p.Metric(`enhanced_circuit_breaker_fallbacks_total{reason="open",service="svc",strategy="upstream"}`); n < 2 {
		t.Errorf("%v answers of the second upstream are counted", n)
	}
}
