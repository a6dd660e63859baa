package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"cbproxy/internal/e2e/harness"
)

// adminRequest returns a request for the named operation, with the given path values.
func adminRequest(p *harness.Proxy, name, service, id string) *http.Request {
	p.T.Helper()
	method, path, _ := strings.Cut(name, " ")
	path = strings.NewReplacer("{service}", service, "{id}", id).Replace(path)
	body := ""
	switch {
	case strings.HasSuffix(path, "/force-state"):
		body = `{"state":"auto"}`
	case strings.HasSuffix(path, "/simulate"):
		body = fmt.Sprintf(`{"service":%q}`, service)
	case name == setOverridesOperation:
		body = `{"set":{"idle_timeout":"50s"},"duration":"1h","reason":"why"}`
	case name == injectOperation:
		body = `{"kind":"delay","delay":0.01,"share":0.5,"duration":"1m","match":{"header":"X-Test","value":"1"}}`
	}
	r, err := http.NewRequest(method, p.AdminURL+path, strings.NewReader(body))
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+harness.AdminToken)
	return r
}

// callAdmin sends the request for an operation. change may modify the request first; it may be nil.
func callAdmin(p *harness.Proxy, name, service, id string, change func(*http.Request)) harness.Response {
	p.T.Helper()
	r := adminRequest(p, name, service, id)
	if change != nil {
		change(r)
	}
	ctx, cancel := context.WithTimeout(p.T.Context(), harness.EventTimeout)
	defer cancel()
	res, err := http.DefaultClient.Do(r.WithContext(ctx))
	return harness.ReadResponse(p.T, res, err)
}

const (
	eventsOperation   = "GET /api/v1/events"
	dropOperation     = "DELETE /api/v1/queue/{id}"
	retryOperation    = "POST /api/v1/queue/{id}/retry"
	forceOperation    = "POST /api/v1/circuit-breakers/{service}/force-state"
	injectOperation   = "POST /api/v1/circuit-breakers/{service}/faults"
	endOperation      = "DELETE /api/v1/circuit-breakers/{service}/faults/{id}"
	reloadOperation   = "POST /api/v1/config/reload"
	resetOperation    = "POST /api/v1/circuit-breakers/{service}/baseline/reset"
	simulateOperation = "POST /api/v1/simulate"

	overridesOperation    = "/api/v1/circuit-breakers/{service}/overrides" // without its method
	setOverridesOperation = "PUT " + overridesOperation
	endOverridesOperation = "DELETE " + overridesOperation
)

// TestAdminResponsesMatchOpenAPIDocument provokes every response that the document describes from a real
// proxy, except those of a failing disk (202 and 500) and of a simulation that is too slow.
func TestAdminResponsesMatchOpenAPIDocument(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	limited := newLimitedUpstream(t)
	config := strings.Replace(harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 2, recovery_timeout: 0.2, failure_ratio: 0.9", ""), "routes: {", `routes: {
  limited: {prefix: /limited, upstream: `+limited.URL+`, breaker: {retry_after: {after: 1}}},
  several: {prefix: /several, upstream: ["http://127.0.0.1:1", "http://127.0.0.1:2"], balance: {eject: {fail_max: 1}}},
  temporary: {prefix: /temporary, upstream: `+u.URL()+`},
  learning: {prefix: /learning, upstream: "http://127.0.0.1:1", breaker: {fail_max: 0, slow_call_duration: auto, adaptive: {mode: shadow, warmup: {calls: 0, time: 0s}}}},
  keyed: {prefix: /keyed, upstream: "http://127.0.0.1:1", breaker: {fail_max: 1, by: {header: X-Tenant, max: 2}}},
  ramp: {prefix: /ramp, upstream: `+u.URL()+`, max_in_flight: auto, breaker: {recovery_ramp: 1h}},
  `, 1)
	p := harness.StartProxy(t, harness.Options{Config: config})
	d := fetchDescription(p)
	stopListening := d.listen(p)

	limited.prolongOpening(p)
	p.MustQueue("a", "b", "slow")
	_, waiting := p.Queue()
	for name := range d.operations {
		if name != eventsOperation && name != dropOperation && name != retryOperation && name != injectOperation && name != endOperation {
			d.expect(name, 200, callAdmin(p, name, "svc", "", nil))
		}
	}
	d.expect(retryOperation, 200, callAdmin(p, retryOperation, "", waiting[1].ID, nil))
	d.expect(dropOperation, 200, callAdmin(p, dropOperation, "", waiting[1].ID, nil))
	for range 20 {
		p.Get("/learning/") // fails, so that the evidence is complete
	}
	d.injectedFaults(p)
	d.endpoints(p, config)
	d.keys(p)
	d.overrides(p, config)
	d.rejections(p, config)
	d.faults(p, config)
	for _, body := range []string{`{"state":"open","duration":"1h","reason":"why"}`, `{"state":"closed","duration":3600}`, `{"state":"half-open"}`, `{"state":"auto"}`} {
		d.expect(forceOperation, 200, callAdmin(p, forceOperation, "svc", "", withBody(body)))
		d.expect("GET /api/v1/circuit-breakers/health", 200, callAdmin(p, "GET /api/v1/circuit-breakers/health", "", "", nil))
	}

	u.SetRules(harness.Rule{In: "slow", Status: 200, Delay: 2 * time.Second})
	u.Start()
	t.Cleanup(u.Kill)
	harness.Eventually(t, "the last request is being delivered", func() bool { return len(u.Records()) == 2 })
	d.expect(dropOperation, 409, callAdmin(p, dropOperation, "", waiting[2].ID, nil))
	p.AwaitEmptyQueue()
	p.Force("ramp", `{"state": "half-open"}`)
	p.Get("/ramp") // closes the breaker
	stopListening()

	inFlight := make(chan harness.Response, 1)
	go func() { inFlight <- p.Post("slow") }()
	harness.Eventually(t, "a request is in flight", func() bool { return len(u.Records()) == 4 })
	p.Signal(syscall.SIGTERM)
	const ready = "GET /readyz"
	harness.Eventually(t, "the proxy is not ready", func() bool { return callAdmin(p, ready, "", "", nil).Status == 503 })
	d.expect(ready, 503, callAdmin(p, ready, "", "", nil))
	if r := <-inFlight; r.Status != 200 {
		t.Errorf("the request in flight: %+v", r)
	}
	for name, o := range d.operations {
		for status := range o.Responses {
			if what := name + " " + status; status != "500" && status != "202" && what != simulateOperation+" 503" && !d.received[what] {
				t.Errorf("documented response not received: %s", what)
			}
		}
	}
}

// limitedUpstream asks its clients for no request before a time. It answers two requests, the second one only on demand.
type limitedUpstream struct {
	*httptest.Server
	arrived chan struct{} // receives a value for each request
	second  chan struct{} // closed when the second one is to be answered
}

func newLimitedUpstream(t *testing.T) *limitedUpstream {
	u := &limitedUpstream{arrived: make(chan struct{}, 2), second: make(chan struct{})}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.arrived <- struct{}{}
		if w.Header().Set("Retry-After", "100"); r.URL.Path == "/second" {
			<-u.second
			w.Header().Set("Retry-After", "200")
		}
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(u.Close)
	return u
}

// prolongOpening makes the response to one request open the breaker, and the one to another request in flight prolong that.
func (u *limitedUpstream) prolongOpening(p *harness.Proxy) {
	get := func(name string) chan int {
		status := make(chan int, 1)
		go func() {
			defer close(status)
			if res, err := http.Get(p.URL + "/limited/" + name); err == nil {
				_ = res.Body.Close()
				status <- res.StatusCode
			}
		}()
		return status
	}
	second := get("second")
	<-u.arrived
	if status := <-get("first"); status != http.StatusTooManyRequests {
		p.T.Errorf("status %d", status)
	}
	close(u.second)
	if status := <-second; status != http.StatusTooManyRequests {
		p.T.Errorf("status %d", status)
	}
}

func withBody(body string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
	}
}

func withField(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// rejections checks the error responses of every operation that do not depend on its arguments: 401, 403, 405 and 429.
func (d *description) rejections(p *harness.Proxy, config string) {
	configHead := p.ConfigHead
	p.AddAdminKeys("protect_reads: true")
	p.ReplaceConfig(config)
	harness.Eventually(p.T, "reads are protected", func() bool { return p.AdminRequest("GET", "/api/v1/config", "").Status == 401 })
	wrong := withField("Authorization", "Bearer wrong")
	for name, o := range d.operations {
		d.expect(name, 405, callAdmin(p, name, "svc", "svc.1", func(r *http.Request) { r.Method = "PATCH" }))
		if _, needsToken := o.Responses["401"]; !needsToken {
			continue
		}
		d.expect(name, 403, callAdmin(p, name, "svc", "svc.1", withField("Origin", "http://other.example")))
		d.expect(name, 401, callAdmin(p, name, "svc", "svc.1", withField("Authorization", "")))
		r := callAdmin(p, name, "svc", "svc.1", wrong)
		for guess := 0; r.Status == 401 && guess < 50; guess++ {
			r = callAdmin(p, name, "svc", "svc.1", wrong)
		}
		d.expect(name, 429, r)
	}
	harness.Eventually(p.T, "the right token is accepted again", func() bool { return p.AdminRequest("GET", "/api/v1/config", harness.AdminToken).Status == 200 })
	p.ConfigHead = configHead
	p.ReplaceConfig(config)
	harness.Eventually(p.T, "reads need no token", func() bool { return p.AdminRequest("GET", "/api/v1/config", "").Status == 200 })
}

// faults calls operations with arguments that they reject.
func (d *description) faults(p *harness.Proxy, config string) {
	for _, name := range []string{forceOperation, simulateOperation, "GET /api/v1/circuit-breakers/{service}", "GET /api/v1/circuit-breakers/{service}/history",
		"GET /api/v1/circuit-breakers/{service}/faults", injectOperation, endOperation, "GET " + overridesOperation, setOverridesOperation, endOverridesOperation,
		resetOperation, "GET /api/v1/circuit-breakers/{service}/baseline", keysOperation, "GET /api/v1/circuit-breakers/{service}/forecast"} {
		d.expect(name, 404, callAdmin(p, name, "none", "f0", nil))
	}
	d.expect(forceOperation, 400, callAdmin(p, forceOperation, "svc", "", withBody(`{"state":"unknown","for":1}`)))
	d.expect(forceOperation, 413, callAdmin(p, forceOperation, "svc", "", withBody(strings.Repeat(" ", 70<<10))))
	d.expect(forceOperation, 415, callAdmin(p, forceOperation, "svc", "", withField("Content-Type", "text/plain")))
	d.expect(injectOperation, 400, callAdmin(p, injectOperation, "svc", "", withBody(`{"kind":"unknown","for":1}`)))
	d.expect(injectOperation, 413, callAdmin(p, injectOperation, "svc", "", withBody(strings.Repeat(" ", 70<<10))))
	d.expect(injectOperation, 415, callAdmin(p, injectOperation, "svc", "", withField("Content-Type", "text/plain")))
	d.expect(setOverridesOperation, 400, callAdmin(p, setOverridesOperation, "svc", "", withBody(`{"set":{"breaker.fail_max":-1},"for":1}`)))
	d.expect(setOverridesOperation, 413, callAdmin(p, setOverridesOperation, "svc", "", withBody(strings.Repeat(" ", 70<<10))))
	d.expect(setOverridesOperation, 415, callAdmin(p, setOverridesOperation, "svc", "", withField("Content-Type", "text/plain")))
	d.expect(resetOperation, 200, callAdmin(p, resetOperation, "svc", "", withBody(`{"reason":"why"}`)))
	d.expect(resetOperation, 400, callAdmin(p, resetOperation, "svc", "", withBody(`{"why":1}`)))
	d.expect(resetOperation, 413, callAdmin(p, resetOperation, "svc", "", withBody(strings.Repeat(" ", 70<<10))))
	d.expect(resetOperation, 415, callAdmin(p, resetOperation, "svc", "", func(r *http.Request) {
		withBody("{}")(r)
		r.Header.Set("Content-Type", "text/plain")
	}))
	d.expect(forceOperation, 503, callAdmin(p, forceOperation, "svc", "", withBody(`{"state":"open","scope":"fleet"}`)))
	d.expect(simulateOperation, 200, callAdmin(p, simulateOperation, "svc", "", func(r *http.Request) { r.URL.RawQuery = "buckets=5" }))
	d.expect(simulateOperation, 400, callAdmin(p, simulateOperation, "svc", "", withBody(`{"service":"svc","breaker":{"fail_max":-1}}`)))
	d.expect(simulateOperation, 413, callAdmin(p, simulateOperation, "svc", "", withBody(strings.Repeat(" ", 70<<10))))
	d.expect(simulateOperation, 415, callAdmin(p, simulateOperation, "svc", "", withField("Content-Type", "text/plain")))
	d.expect("GET /api/v1/queue", 400, callAdmin(p, "GET /api/v1/queue", "", "", func(r *http.Request) { r.URL.RawQuery = "limit=0" }))
	d.expect("GET /api/v1/trends", 400, callAdmin(p, "GET /api/v1/trends", "", "", func(r *http.Request) { r.URL.RawQuery = "after=x&service=none" }))
	d.expect("GET /api/v1/outcomes", 400, callAdmin(p, "GET /api/v1/outcomes", "", "", func(r *http.Request) { r.URL.RawQuery = "since=x&until=y" }))
	d.expect("GET /api/v1/outcomes", 404, callAdmin(p, "GET /api/v1/outcomes", "", "", func(r *http.Request) { r.URL.RawQuery = "service=none" }))
	tooLong := func(r *http.Request) { r.URL.RawQuery = "reason=" + strings.Repeat("x", 1001) }
	d.expect(endOperation, 400, callAdmin(p, endOperation, "svc", "f1", tooLong))
	d.expect(endOverridesOperation, 400, callAdmin(p, endOverridesOperation, "svc", "", tooLong))
	for _, name := range []string{dropOperation, retryOperation} {
		d.expect(name, 404, callAdmin(p, name, "", "svc.999999", nil))
		d.expect(name, 400, callAdmin(p, name, "", "svc.999999", tooLong))
	}
	d.expect(reloadOperation, 400, callAdmin(p, reloadOperation, "", "", tooLong))
	p.ReplaceConfig(config + "nonsense: 1\n")
	d.expect(reloadOperation, 400, callAdmin(p, reloadOperation, "", "", nil))
	d.expect("GET /api/v1/circuit-breakers/health", 200, callAdmin(p, "GET /api/v1/circuit-breakers/health", "", "", nil))
	p.ReplaceConfig(config)
	d.expect(reloadOperation, 200, callAdmin(p, reloadOperation, "", "", nil))
}

// injectedFaults injects faults of each kind, as many as are allowed, and ends them.
func (d *description) injectedFaults(p *harness.Proxy) {
	p.T.Helper()
	var ids []string
	for i := range 16 {
		body := `{"kind":"` + []string{"abort", "delay", "reset", "cut"}[i%4] + `","status":418,"delay":"2s","share":0.1,"duration":60,"match":{"header":"x-none"},"reason":"why"}`
		r := callAdmin(p, injectOperation, "svc", "", withBody(body))
		d.expect(injectOperation, 201, r)
		var f struct{ ID string }
		if err := json.Unmarshal([]byte(r.Body), &f); err != nil || !strings.HasSuffix(r.Header.Get("Location"), "/svc/faults/"+f.ID) {
			p.T.Errorf("%+v, %v", r, err)
		}
		ids = append(ids, f.ID)
	}
	d.expect(injectOperation, 409, callAdmin(p, injectOperation, "svc", "", nil))
	for _, name := range []string{"GET /api/v1/circuit-breakers/{service}/faults", "GET /api/v1/circuit-breakers/health"} {
		d.expect(name, 200, callAdmin(p, name, "svc", "", nil))
	}
	for _, id := range ids {
		d.expect(endOperation, 200, callAdmin(p, endOperation, "svc", id, func(r *http.Request) { r.URL.RawQuery = "reason=done" }))
		d.expect(endOperation, 404, callAdmin(p, endOperation, "svc", id, nil))
	}
}

// endpoints makes an endpoint fail, so that it is ejected, and looks up the endpoints of another service.
func (d *description) endpoints(p *harness.Proxy, config string) {
	p.T.Helper()
	const health = "GET /api/v1/circuit-breakers/health"
	p.Get("/several/")
	p.ReplaceConfig(strings.Replace(config, "  several:", `  resolved: {prefix: /resolved, upstream: "dns+http://localhost:7"},
  several:`, 1))
	harness.Eventually(p.T, "an address of the name is an endpoint", func() bool {
		return strings.Contains(callAdmin(p, health, "", "", nil).Body, `"url":"http://127.0.0.1:7","state":"in"`)
	})
	r := callAdmin(p, health, "", "", nil)
	d.expect(health, 200, r)
	if !strings.Contains(r.Body, `"state":"ejected"`) {
		p.T.Errorf("no endpoint is ejected: %s", r.Body)
	}
	p.ReplaceConfig(config)
}

// overrides sets overrides and ends them, and lets a new configuration drop some.
func (d *description) overrides(p *harness.Proxy, config string) {
	p.T.Helper()
	const health = "GET /api/v1/circuit-breakers/health"
	for _, service := range []string{"svc", "temporary"} {
		d.expect(setOverridesOperation, 200, callAdmin(p, setOverridesOperation, service, "", nil))
	}
	d.expect("GET "+overridesOperation, 200, callAdmin(p, "GET "+overridesOperation, "svc", "", nil))
	d.expect(health, 200, callAdmin(p, health, "", "", nil))
	d.expect(endOverridesOperation, 200, callAdmin(p, endOverridesOperation, "svc", "", func(r *http.Request) { r.URL.RawQuery = "reason=done" }))
	p.ReplaceConfig(strings.Replace(config, "temporary: {prefix: /temporary", "other: {prefix: /temporary", 1))
	harness.Eventually(p.T, "the overrides are dropped", func() bool {
		return strings.Contains(callAdmin(p, health, "", "", nil).Body, `"overrides_dropped":[{"service":"temporary"`)
	})
	d.expect(health, 200, callAdmin(p, health, "", "", nil))
	p.ReplaceConfig(config)
	harness.Eventually(p.T, "the service is there again", func() bool { return callAdmin(p, "GET "+overridesOperation, "temporary", "", nil).Status == 200 })
}

// listen checks events as they arrive. The function that it returns stops listening and checks that there
// was one event of each kind, except those that need a fleet.
func (d *description) listen(p *harness.Proxy) (stop func()) {
	p.T.Helper()
	ctx, cancel := context.WithCancel(p.T.Context())
	res, err := http.DefaultClient.Do(adminRequest(p, eventsOperation, "", "").WithContext(ctx))
	if err != nil {
		p.T.Fatal(err)
	}
	d.expect(eventsOperation, res.StatusCode, harness.Response{Status: res.StatusCode, Header: res.Header})
	kinds := d.operations[eventsOperation].Responses["200"].Events
	var mu sync.Mutex
	received := map[string]string{} // the last valid event of each kind
	done := make(chan struct{})
	go func() {
		defer close(done)
		name := ""
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = n
			} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				mu.Lock()
				received[name] = data
				if kinds[name] == nil {
					d.t.Errorf("the document has no event %q", name)
				} else {
					d.valid("the event "+name, kinds[name], data)
				}
				mu.Unlock()
			}
		}
	}()
	return func() {
		harness.Eventually(d.t, "an event of each kind was received", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(received) == len(kinds)-1
		})
		cancel()
		<-done
		_ = res.Body.Close()
		for name := range kinds {
			if _, ok := received[name]; ok == (name == "probing") {
				d.t.Errorf("event %s received: %t", name, ok)
			}
		}
	}
}

// TestOpenAPIDocumentIsValid checks the document against OpenAPI's own schema, version 2022-10-07, which is
// in testdata.
func TestOpenAPIDocumentIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/openapi-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: http://127.0.0.1:1}}\n"})
	served := p.AdminRequest("GET", "/api/v1/openapi.json", "").Body
	if err := validate(resolved, served); err != nil {
		t.Error(err)
	}
	if invalid := strings.Replace(served, `"operationId":`, `"operation":`, 1); invalid == served || validate(resolved, invalid) == nil {
		t.Error("a document with an unknown key is accepted")
	}
}
