package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

const keysOperation = "GET /api/v1/circuit-breakers/{service}/keys"

// keys makes the requests of a key fail, and forces the states of keys.
func (d *description) keys(p *harness.Proxy) {
	p.T.Helper()
	p.Send("GET", "/keyed/", "", "X-Tenant", "a")
	r := callAdmin(p, keysOperation, "keyed", "", nil)
	d.expect(keysOperation, 200, r)
	if !strings.Contains(r.Body, `"key":"a","state":"open"`) {
		p.T.Errorf("keys: %s", r.Body)
	}
	force := func(status int, service, body string) {
		p.T.Helper()
		d.expect(forceOperation, status, callAdmin(p, forceOperation, service, "", withBody(body)))
	}
	force(200, "keyed", `{"state":"open","key":"a","duration":"1h","reason":"why"}`)
	force(200, "keyed", `{"state":"closed","key":"b"}`)
	force(409, "keyed", `{"state":"open","key":"c"}`)
	force(200, "keyed", `{"state":"auto","key":"b","scope":"instance"}`)
	force(400, "keyed", `{"state":"open","key":"a","scope":"fleet"}`)
	force(400, "svc", `{"state":"open","key":"a"}`)
	r = callAdmin(p, keysOperation, "keyed", "", func(r *http.Request) { r.URL.RawQuery = "limit=1" })
	d.expect(keysOperation, 200, r)
	if !strings.Contains(r.Body, `"key":"a"`) || strings.Contains(r.Body, `"key":"b"`) {
		p.T.Errorf("the first key: %s", r.Body)
	}
	d.expect(keysOperation, 400, callAdmin(p, keysOperation, "keyed", "", func(r *http.Request) { r.URL.RawQuery = "limit=x" }))
}

// keyedConfig is a service whose requests are judged by tenant. breaker has further keys of breaker.
func keyedConfig(upstream, breaker string) string {
	return "routes: {svc: {prefix: /svc, upstream: " + upstream + ", breaker: {fail_max: 3, " + breaker + "}}}\n"
}

// newTenantUpstream returns an upstream that fails for tenants that contain "bad".
func newTenantUpstream(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("X-Tenant"), "bad") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// keyList is the response to keysOperation.
type keyList struct {
	Service, Header string
	Max             int
	Keys            []struct {
		Key, State  string
		FailCounter int `json:"fail_counter"`
		Forced      *struct{ State string }
		LastUsed    *string `json:"last_used"`
	}
}

func listKeys(p *harness.Proxy) (list keyList) {
	p.T.Helper()
	r := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc/keys", harness.AdminToken)
	if err := json.Unmarshal([]byte(r.Body), &list); err != nil || r.Status != 200 {
		p.T.Fatalf("%+v, %v", r, err)
	}
	return list
}

// names returns the listed keys.
func (l keyList) names() (names []string) {
	for _, k := range l.Keys {
		names = append(names, k.Key)
	}
	return names
}

func TestTenantsAreJudgedApart(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: keyedConfig(newTenantUpstream(t), `by: {header: "X-Tenant", max: 4}`)})
	const bad = `bad "tenant" <script>é`
	send := func(tenant string) (status int, state string) {
		r := p.Send("GET", "/svc/", "", "X-Tenant", tenant)
		return r.Status, r.Header.Get("X-Circuit-Breaker-State")
	}
	for range 3 {
		send(bad)
	}
	if status, state := send(bad); status != 503 || state != "open" {
		t.Errorf("status %d, state %s", status, state)
	}
	if status, state := send("good"); status != 200 || state != "closed" {
		t.Errorf("status %d, state %s", status, state)
	}
	if r := p.Get("/svc/"); r.Status != 200 {
		t.Errorf("without a tenant: status %d", r.Status)
	}
	list := listKeys(p)
	if list.Service != "svc" || list.Header != "X-Tenant" || list.Max != 4 || len(list.Keys) != 2 || list.Keys[0].Key != bad ||
		list.Keys[0].State != "open" || list.Keys[0].FailCounter != 3 || list.Keys[0].LastUsed == nil || list.Keys[1].Key != "good" {
		t.Errorf("%+v", list)
	}
	health := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc", "")
	if !strings.Contains(health.Body, `"keys":{"total":2,"open":1,"half_open":0}`) || !strings.Contains(health.Body, `"circuit_breaker_state":"closed"`) {
		t.Errorf("%s", health.Body)
	}
	for series, want := range map[string]float64{
		`cbproxy_key_breakers{service="svc",state="open"}`: 1, `cbproxy_key_breakers{service="svc",state="closed"}`: 1,
		`cbproxy_key_transitions_total{service="svc",to="open"}`: 1, `cbproxy_key_evictions_total{service="svc"}`: 0,
	} {
		if got := p.Metric(series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	p.Force("svc", `{"state":"auto","key":`+quoteJSON(bad)+`}`) // it is not forced
	p.Force("svc", `{"state":"open","key":"good","reason":"abuse"}`)
	if status, state := send("good"); status != 503 || state != "open" {
		t.Errorf("forced: status %d, state %s", status, state)
	}
	if k := listKeys(p).Keys[0]; k.Key != "good" || k.Forced == nil {
		t.Errorf("%+v", k)
	}
	harness.Eventually(t, "the change is logged", func() bool { return strings.Contains(p.Log.String(), "circuit breaker of a key changed its state") })
	checkKeyIsNowhere(p, "tenant")
}

func quoteJSON(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// checkKeyIsNowhere checks that no part of a key is in the log, in the metrics, in the history or in a file.
func checkKeyIsNowhere(p *harness.Proxy, part string) {
	p.T.Helper()
	for what, text := range map[string]string{
		"log": p.Log.String(), "metrics": p.Metrics(), "health": p.AdminRequest("GET", "/api/v1/circuit-breakers/health", "").Body,
		"history":  p.AdminRequest("GET", "/api/v1/circuit-breakers/svc/history", "").Body,
		"outcomes": p.AdminRequest("GET", "/api/v1/outcomes?service=svc", "").Body,
		"trends":   p.AdminRequest("GET", "/api/v1/trends", "").Body,
	} {
		if text == "" || strings.Contains(text, part) {
			p.T.Errorf("%s: %s", what, text)
		}
	}
	_ = filepath.WalkDir(p.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), part) {
				p.T.Errorf("%s has the key", path)
			}
		}
		return nil
	})
}

func TestLeastRecentlyUsedTenantGoes(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: keyedConfig(newTenantUpstream(t), "by: {header: X-Tenant, max: 3}")})
	for _, tenant := range []string{"a", "b", "c", "a", "d"} {
		p.Send("GET", "/svc/", "", "X-Tenant", tenant)
	}
	if got := fmt.Sprint(listKeys(p).names()); got != "[d a c]" {
		t.Errorf("keys %s", got)
	}
	if n := p.Metric(`cbproxy_key_evictions_total{service="svc"}`); n != 1 {
		t.Errorf("%v evictions", n)
	}
}

// Many values that are made up, while breaker.by is reloaded: no request fails, and the number of keys stays bounded.
func TestManyTenantsUnderReloads(t *testing.T) {
	t.Parallel()
	upstream := newTenantUpstream(t)
	configs := []string{
		keyedConfig(upstream, "by: {header: X-Tenant, max: 100}"), keyedConfig(upstream, "by: {header: X-Other, max: 5}"),
		keyedConfig(upstream, "failure_ratio: 0.5, by: {header: X-Tenant, max: 20}"), keyedConfig(upstream, "window: 10s"),
		keyedConfig(upstream, "recovery_timeout: 1s, by: {header: X-Tenant, max: 50}"),
	}
	p := harness.StartProxy(t, harness.Options{Config: configs[0]})
	const workers, requests = 8, 1250
	var work sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	for w := range workers {
		work.Go(func() {
			for i := range requests {
				r, _ := http.NewRequestWithContext(t.Context(), "GET", p.URL+"/svc/", nil)
				r.Header.Set("X-Tenant", fmt.Sprint("tenant-", w*requests+i))
				r.Header.Set("X-Other", fmt.Sprint(i%7))
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("status %d", res.StatusCode)
					return
				}
			}
		})
	}
	for i := range 10 {
		p.ReplaceConfig(configs[(i+1)%len(configs)])
		if r := p.AdminSend("POST", "/api/v1/config/reload", ""); r.Status != 200 {
			t.Fatalf("%+v", r)
		}
		if list := listKeys(p); len(list.Keys) > 100 {
			t.Errorf("%d keys", len(list.Keys))
		}
	}
	work.Wait()
	p.Send("GET", "/svc/", "", "X-Tenant", "last")
	if list := listKeys(p); list.Header != "X-Tenant" || len(list.Keys) == 0 || len(list.Keys) > 100 || list.Keys[0].Key != "last" {
		t.Errorf("%d keys of %s: %v", len(list.Keys), list.Header, list.names())
	}
}
