package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// fallbackRoute returns the configuration of a service svc with its own fallback.
func fallbackRoute(u *upstreamProcess, try, options string) string {
	return fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, timeout: 5, breaker: {fail_max: 2, recovery_timeout: 60}}}
fallbacks: {svc: {when: [open, connect, timeout, reset, status], try: [%s], %s}}
`, u.url(), try, options)
}

// fellBack fails the test unless the strategy responded with the given status.
func checkFallback(r response, t *testing.T, strategy string, status int) {
	t.Helper()
	if r.status != status || r.header.Get("X-Fallback") != strategy {
		t.Errorf("want %d by %s: %+v", status, strategy, r)
	}
}

func TestCacheAnswersWhenUpstreamIsDown(t *testing.T) {
	t.Parallel()
	u := startRecorder(t)
	u.answer(
		rule{In: "GET /private", Status: 200, Body: "private", Headers: map[string]string{"Cache-Control": "no-store"}},
		rule{In: "Authorization: alice", Status: 200, Body: "alice's", Headers: map[string]string{"Set-Cookie": "id=alice", "X-Circuit-Breaker-State": "spoofed"}},
		rule{In: "question=1", Status: 200, Body: "one"},
		rule{Status: 200, Body: "anybody's", Headers: map[string]string{"X-Kept": "kept"}},
	)
	config := fallbackRoute(u.upstreamProcess, "cache, static", "static: {status: 503, body: none}")
	p := startProxy(t, options{config: config})
	p.get("/svc/a?b=%")
	p.get("/svc/private")
	p.send("GET", "/svc/mine", "", "Authorization", "alice")
	p.send("POST", "/svc/ask", "question=1")
	u.kill()
	p.replace(strings.Replace(config, "timeout: 5", "timeout: 6", 1)) // the cache survives the reload
	eventually(t, "the edit is in force", func() bool { return timeoutOf(p) == 6 })
	for _, state := range []string{"closed", "closed", "open"} {
		r := p.get("/svc/a?b=%")
		checkFallback(r, t, "cache", 200)
		if r.body != "anybody's" || r.header.Get("Age") == "" || r.header.Get("X-Kept") != "kept" || r.state() != state {
			t.Errorf("%+v", r)
		}
	}
	mine := p.send("GET", "/svc/mine", "", "Authorization", "alice")
	checkFallback(mine, t, "cache", 200)
	if mine.body != "alice's" || mine.header.Get("Set-Cookie") != "" {
		t.Errorf("%+v", mine)
	}
	asked := p.send("POST", "/svc/ask", "question=1")
	checkFallback(asked, t, "cache", 200)
	if asked.body != "one" {
		t.Errorf("%+v", asked)
	}
	checkFallback(p.send("GET", "/svc/mine", "", "Authorization", "bob"), t, "static", 503)
	checkFallback(p.get("/svc/mine"), t, "static", 503)
	checkFallback(p.get("/svc/private"), t, "static", 503)
	checkFallback(p.get("/svc/a?b=other"), t, "static", 503)
	checkFallback(p.send("POST", "/svc/ask", "question=2"), t, "static", 503)
}

func TestSecondUpstreamAnswers(t *testing.T) {
	t.Parallel()
	u, second := startRecorder(t), startRecorder(t)
	u.answer(rule{Status: 500, Body: "broken", Headers: map[string]string{"X-First": "secret", "Set-Cookie": "first=1"}})
	second.answer(
		rule{In: "/missing", Status: 404, Body: "no such thing", Headers: map[string]string{"X-Second": "there"}},
		rule{In: "/broken", Status: 502},
		rule{Status: 201, Body: "made", Headers: map[string]string{"X-Fallback": "spoofed", "X-Second": "there"}})
	p := startProxy(t, options{config: fallbackRoute(u.upstreamProcess, "upstream, static", "upstream: {url: "+second.url()+"/base}, static: {status: 503, body: none}")})
	body := strings.Repeat("\x00body", 10_000)
	for _, reason := range []string{"status", "status", "open"} {
		r := p.send("POST", "/svc/a%2Fb?q=%", body, "X-Mine", "1")
		checkFallback(r, t, "upstream", 201)
		if r.body != "made" || r.header.Get("X-Second") != "there" || r.header.Get("X-First") != "" || r.header.Get("Set-Cookie") != "" ||
			len(r.header.Values("X-Fallback")) != 1 || r.header.Get("X-Fallback-Reason") != reason {
			t.Errorf("%+v", r)
		}
	}
	missing := p.get("/svc/missing")
	checkFallback(missing, t, "upstream", 404)
	if missing.body != "no such thing" {
		t.Errorf("%+v", missing)
	}
	checkFallback(p.get("/svc/broken"), t, "static", 503)
	asked := second.records()
	if len(asked) != 5 || len(u.records()) != 2 {
		t.Fatalf("%d requests reached the second upstream, %d the first", len(asked), len(u.records()))
	}
	if q := asked[0]; q.Method != "POST" || q.RequestURI != "/base/a%2Fb?q=%" || q.body != body || q.Header.Get("X-Mine") != "1" || q.Host != second.address {
		t.Errorf("%s %s to %s with %d bytes, %v", q.Method, q.RequestURI, q.Host, len(q.body), q.Header)
	}
	second.kill()
	checkFallback(p.get("/svc/x"), t, "static", 503)
}

func TestEndpointAnswers(t *testing.T) {
	t.Parallel()
	u, endpoint := newRecorder(t), startRecorder(t)
	endpoint.answer(
		rule{In: "/svc/none", Status: 204},
		rule{In: "/svc/nonsense", Status: 200, Body: `{"status": 9}`},
		rule{Status: 200, Body: `{"status": 203, "headers": {"X-Mine": "1"}, "body": {"n": 1.0}}`})
	p := startProxy(t, options{config: fallbackRoute(u.upstreamProcess, "http, static", "http: {url: "+endpoint.url()+"/decide, headers: [X-Told]}, static: {status: 503, body: none}")})
	r := p.send("POST", "/svc/a%2Fb?q=%", "the body", "X-Told", "told", "Authorization", "s3cret")
	checkFallback(r, t, "http", 203)
	if r.body != `{"n": 1.0}` || r.header.Get("X-Mine") != "1" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", r)
	}
	checkFallback(p.get("/svc/none"), t, "static", 503)
	checkFallback(p.get("/svc/nonsense"), t, "static", 503)
	q := endpoint.records()[0]
	var asked struct {
		Service, Reason, Method, Path, Query, Body string
		Headers                                    map[string][]string
	}
	if err := json.Unmarshal([]byte(q.body), &asked); err != nil || q.Method != "POST" || q.RequestURI != "/decide" {
		t.Errorf("%s %s: %s, %v", q.Method, q.RequestURI, q.body, err)
	}
	if asked.Service != "svc" || asked.Reason != "connect" || asked.Method != "POST" || asked.Path != "/svc/a%2Fb" || asked.Query != "q=%" ||
		asked.Body != "the body" || len(asked.Headers) != 1 || asked.Headers["X-Told"][0] != "told" {
		t.Errorf("asked %+v", asked)
	}
	endpoint.kill()
	checkFallback(p.get("/svc/x"), t, "static", 503)
}

func TestTemplateAnswers(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: fallbackRoute(u.upstreamProcess, "template", `template: {status: 202, headers: {X-Mine: "1"},
  body: {about: "{{service}} {{reason}} {{method}}", id: "{{json \"order.id\"}}", name: "{{query \"name\" | default \"nobody\"}}", none: "{{header \"X-None\"}}"}}`)})
	r := p.send("POST", "/svc/x?name=%22%7D", `{"order": {"id": 12345678901234567890}}`)
	checkFallback(r, t, "template", 202)
	if want := `{"about":"svc connect POST","id":12345678901234567890,"name":"\"}","none":null}`; r.body != want || r.header.Get("X-Mine") != "1" {
		t.Errorf("%+v, want %s", r, want)
	}
}

// TestStrategiesAreTriedInOrder checks that strategies are tried in the configured order until one has a
// response.
func TestStrategiesAreTriedInOrder(t *testing.T) {
	t.Parallel()
	u, second := startRecorder(t), newRecorder(t)
	u.answer(rule{In: "/known", Status: 200, Body: "known"})
	p := startProxy(t, options{config: fallbackRoute(u.upstreamProcess, "cache, upstream, queue, static",
		"queue: {methods: [PUT], body: {queued: true}}, upstream: {url: "+second.url()+", breaker: {fail_max: 1, recovery_timeout: 0.2}}, static: {status: 503, body: none}")})
	p.get("/svc/known")
	u.kill()
	for _, c := range []struct {
		method, path, strategy string
		status                 int
	}{
		{"GET", "/svc/known", "cache", 200},
		{"GET", "/svc/unknown", "static", 503},
		{"PUT", "/svc/unknown", "queue", http.StatusAccepted},
	} {
		checkFallback(p.send(c.method, c.path, ""), t, c.strategy, c.status)
	}
	second.start()
	t.Cleanup(second.kill)
	eventually(t, "the second upstream is asked again", func() bool { return p.get("/svc/unknown").header.Get("X-Fallback") == "upstream" })
	checkFallback(p.get("/svc/known"), t, "cache", 200)
	checkFallback(p.send("PUT", "/svc/unknown", ""), t, "upstream", 200)
	if n := p.metric(`enhanced_circuit_breaker_fallbacks_total{reason="open",service="svc",strategy="upstream"}`); n < 2 {
		t.Errorf("%v answers of the second upstream are counted", n)
	}
}
