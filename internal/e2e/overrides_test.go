package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// overridesDocument is a response to a request for overrides.
type overridesDocument struct {
	Set   map[string]json.RawMessage
	Until *time.Time
	Keys  []struct {
		Key       string
		FileValue any `json:"file_value"`
		Value     any
	}
	Changes      []struct{ Key, Change, Effect string }
	NotPersisted string `json:"not_persisted"`
}

// callOverrides sends a request for the overrides of svc and returns its 200 response.
func callOverrides(p *harness.Proxy, operation, body string) (o overridesDocument) {
	p.T.Helper()
	r := callAdmin(p, operation, "svc", "", withBody(body))
	if err := json.Unmarshal([]byte(r.Body), &o); err != nil || r.Status != http.StatusOK {
		p.T.Fatalf("%s %s: %+v, %v", operation, body, r, err)
	}
	return o
}

// routeOf returns the keys of svc in the effective configuration.
func routeOf(p *harness.Proxy) (route struct {
	Timeout string
	Breaker struct {
		FailMax int `json:"fail_max"`
	}
}) {
	p.T.Helper()
	var config struct{ Routes map[string]json.RawMessage }
	r := p.AdminRequest("GET", "/api/v1/config", "")
	err := json.Unmarshal([]byte(r.Body), &config)
	if err == nil {
		err = json.Unmarshal(config.Routes["svc"], &route)
	}
	if err != nil {
		p.T.Fatalf("%+v, %v", r, err)
	}
	return route
}

// overriddenKeys returns the keys of svc that health shows as overridden.
func overriddenKeys(p *harness.Proxy) string {
	p.T.Helper()
	var health struct {
		Services map[string]struct{ Overrides *struct{ Keys []string } }
	}
	r := callAdmin(p, "GET /api/v1/circuit-breakers/health", "", "", nil)
	if err := json.Unmarshal([]byte(r.Body), &health); err != nil {
		p.T.Fatalf("%+v, %v", r, err)
	}
	if o := health.Services["svc"].Overrides; o != nil {
		return strings.Join(o.Keys, " ")
	}
	return ""
}

// hasLogged reports whether the log of p contains a text.
func hasLogged(p *harness.Proxy, text string) bool { return strings.Contains(p.Log.String(), text) }

// TestOverridesAreInForceUntilTheirEnd checks that overrides take effect at once, over file and environment, stay in force when the file
// is edited, are replaced as a whole, and end by themselves.
func TestOverridesAreInForceUntilTheirEnd(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := harness.RouteConfig(u, 100)
	p := harness.StartProxy(t, harness.Options{Config: config, Env: []string{"CIRCUIT_BREAKER_SVC_FAIL_MAX=7"}})
	hash := p.Health().Config.Hash
	o := callOverrides(p, setOverridesOperation, `{"set": {"breaker.fail_max": 1, "breaker.failure_statuses": ["200"], "timeout": "5s"}, "duration": "1h", "reason": "why"}`)
	if len(o.Keys) != 3 || o.Keys[0].Key != "breaker.fail_max" || o.Keys[0].FileValue != 7.0 || o.Keys[0].Value != 1.0 || o.NotPersisted != "" {
		t.Errorf("%+v", o)
	}
	if len(o.Changes) != 3 || o.Changes[1].Key != "routes.svc.breaker.fail_max" || o.Changes[1].Change != "7 -> 1" || !strings.Contains(o.Changes[1].Effect, "consecutive failures") {
		t.Errorf("%+v", o.Changes)
	}
	if p.Get("/svc/"); p.BreakerState() != "open" {
		t.Error("a response with one of failure_statuses has not opened the breaker")
	}
	harness.ForceState(t, p, "closed")
	harness.ForceState(t, p, "auto")
	overridden := p.Health().Config.Hash
	if got := p.Metric(`cbproxy_overridden{key="timeout",service="svc"}`); got != 1 || overridden == hash {
		t.Errorf("metric %v, hash %s", got, overridden)
	}

	p.ReplaceConfig(strings.Replace(config, "timeout: 100", "timeout: 50, idle_timeout: 9", 1))
	harness.Eventually(t, "the edit is active", func() bool {
		return strings.Contains(p.AdminRequest("GET", "/api/v1/config", "").Body, `"idle_timeout":"9s"`)
	})
	if r := routeOf(p); r.Timeout != "5s" || r.Breaker.FailMax != 1 {
		t.Errorf("after an edit of the file: %+v", r)
	}
	if o := callOverrides(p, "GET "+overridesOperation, ""); len(o.Keys) != 3 || o.Keys[2].FileValue != "50s" {
		t.Errorf("after an edit of the file: %+v", o)
	}
	p.ReplaceConfig(config)
	harness.Eventually(t, "the first file is active", func() bool { return p.Health().Config.Hash == overridden })

	if r := callAdmin(p, setOverridesOperation, "svc", "", withBody(`{"set": {"timeout": "6s", "breaker.fail_max": -1, "upstream": "http://127.0.0.1:1"}, "duration": "48h"}`)); r.Status != 400 ||
		!strings.Contains(r.Body, "breaker.fail_max: must be from 0 to 1000000, got -1") || !strings.Contains(r.Body, "upstream: can be changed in the file only") || !strings.Contains(r.Body, "duration: ") {
		t.Errorf("%+v", r)
	}
	if r := routeOf(p); r.Timeout != "5s" {
		t.Errorf("after invalid overrides: %+v", r)
	}
	callOverrides(p, setOverridesOperation, `{"set": {"timeout": "6s"}, "duration": 0.3}`)
	harness.Eventually(t, "the overrides have ended", func() bool { return overriddenKeys(p) == "" })
	if r := routeOf(p); r.Timeout != "1m40s" || r.Breaker.FailMax != 7 || p.Health().Config.Hash != hash || strings.Contains(p.Metrics(), "cbproxy_overridden{") {
		t.Errorf("after the end: %+v", r)
	}
	callOverrides(p, setOverridesOperation, `{"set": {"timeout": "7s"}, "duration": "1h"}`)
	if ended := callOverrides(p, endOverridesOperation, ""); len(ended.Keys) != 1 || len(ended.Changes) != 1 || ended.Changes[0].Change != "7s -> 1m40s" || routeOf(p).Timeout != "1m40s" {
		t.Errorf("%+v", ended)
	}
	if none := callOverrides(p, endOverridesOperation, ""); len(none.Keys) != 0 || none.Until != nil {
		t.Errorf("%+v", none)
	}
	for _, line := range []string{
		`"msg":"overrides set","service":"svc","keys":["breaker.fail_max","breaker.failure_statuses","timeout"]`, `"msg":"overrides ended","service":"svc","keys":["timeout"],"cause":"expired"`,
		`"cause":"ended"`, `"action":"set-overrides"`, `"action":"end-overrides"`, `routes.svc.breaker.fail_max: 7 -> 1`,
	} {
		harness.Eventually(t, "the log contains "+line, func() bool { return hasLogged(p, line) })
	}
}

// TestOverridesSurviveRestarts checks that overrides are on disk when the response arrives, that they end at the same time after a
// restart, and that a proxy which starts after that does not apply them.
func TestOverridesSurviveRestarts(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 100)})
	file := filepath.Join(p.DataDir, "overrides.json")
	set := callOverrides(p, setOverridesOperation, `{"set": {"timeout": "5s"}, "duration": "1h", "reason": "why"}`)
	p.Kill()
	p.Start()
	if o := callOverrides(p, "GET "+overridesOperation, ""); !o.Until.Equal(*set.Until) || routeOf(p).Timeout != "5s" {
		t.Errorf("after a restart: %+v, want %+v", o, set)
	}
	short := callOverrides(p, setOverridesOperation, `{"set": {"timeout": "6s"}, "duration": 0.5}`)
	p.Kill()
	harness.Eventually(t, "the time is up", func() bool { return time.Now().After(*short.Until) })
	p.Start()
	if route, keys := routeOf(p), overriddenKeys(p); route.Timeout != "1m40s" || keys != "" {
		t.Errorf("after the end: %+v, %s", route, keys)
	}
	harness.Eventually(t, "the end is logged", func() bool { return hasLogged(p, `"cause":"expired"`) })
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file still exists: %v", err)
	}
	callOverrides(p, setOverridesOperation, `{"set": {"timeout": "7s"}, "duration": "1h"}`)
	callOverrides(p, endOverridesOperation, "")
	p.Kill()
	if err := os.WriteFile(file, []byte(`{"overrides": `), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	if route := routeOf(p); route.Timeout != "1m40s" || !hasLogged(p, "persisted overrides lost") {
		t.Errorf("after the file was damaged: %+v", route)
	}
	if aside, err := filepath.Glob(file + ".set-aside-*"); len(aside) != 1 || err != nil {
		t.Errorf("%q, %v", aside, err)
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestOverridesThatCannotBeStored checks that overrides are in force, with a warning in the response, while they can't be written to the
// disk, and that they are stored as soon as that is possible.
func TestOverridesThatCannotBeStored(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 100)})
	file := filepath.Join(p.DataDir, "overrides.json")
	obstacle := file + ".new"
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	r := callAdmin(p, setOverridesOperation, "svc", "", withBody(`{"set": {"timeout": "5s"}, "duration": "1h"}`))
	if r.Status != http.StatusAccepted || !strings.Contains(r.Body, `"not_persisted":"the change is in force, but`) || routeOf(p).Timeout != "5s" {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the overrides are stored", func() bool { return hasLogged(p, "overrides stored again") })
	p.Kill()
	p.Start()
	if route := routeOf(p); route.Timeout != "5s" || strings.Count(p.Log.String(), "cannot store the overrides") != 1 {
		t.Errorf("after a restart: %+v", route)
	}
}

// TestOverridesInMemory checks that the response says so if overrides end with the process.
func TestOverridesInMemory(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 100), NoDataDir: true})
	if o := callOverrides(p, setOverridesOperation, `{"set": {"timeout": "5s"}, "duration": "1h"}`); !strings.Contains(o.NotPersisted, "no data_dir") || routeOf(p).Timeout != "5s" {
		t.Errorf("%+v", o)
	}
}

// TestOverridesThatDoNotFitAreDropped checks that a new configuration is in force without the overrides that are not valid together with
// it, and that log and health report them.
func TestOverridesThatDoNotFitAreDropped(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := harness.RouteConfig(u, 100)
	p := harness.StartProxy(t, harness.Options{Config: config})
	dropped := func() string {
		var health struct {
			Config struct {
				OverridesDropped []struct{ Service, Error string } `json:"overrides_dropped"`
			}
		}
		r := callAdmin(p, "GET /api/v1/circuit-breakers/health", "", "", nil)
		if err := json.Unmarshal([]byte(r.Body), &health); err != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		return fmt.Sprint(health.Config.OverridesDropped)
	}
	callOverrides(p, setOverridesOperation, `{"set": {"retry.backoff": "800ms", "timeout": "5s"}, "duration": "1h"}`)
	p.ReplaceConfig(strings.Replace(config, "timeout: 100", "timeout: 50, retry: {max_backoff: 0.5}", 1))
	harness.Eventually(t, "the overrides are dropped", func() bool { return routeOf(p).Timeout == "50s" })
	if keys, got := overriddenKeys(p), dropped(); keys != "" || !strings.Contains(got, "{svc retry.max_backoff: must be backoff (800ms) or more, got 500ms}") {
		t.Errorf("keys %q, dropped %s", keys, got)
	}
	callOverrides(p, setOverridesOperation, `{"set": {"timeout": "5s"}, "duration": "1h"}`)
	p.ReplaceConfig(strings.Replace(config, "{svc: {prefix: /svc", "{other: {prefix: /svc", 1))
	harness.Eventually(t, "the overrides of the removed service are dropped", func() bool { return strings.Contains(dropped(), "no such service") })
	p.ReplaceConfig(config)
	harness.Eventually(t, "the service is there again", func() bool { return callAdmin(p, "GET "+overridesOperation, "svc", "", nil).Status == 200 })
	if route := routeOf(p); route.Timeout != "1m40s" {
		t.Errorf("%+v", route)
	}
	harness.Eventually(t, "both are logged", func() bool { return strings.Count(p.Log.String(), "overrides dropped") == 2 })
}

// TestConcurrentOverridesAndReloads changes overrides while the file is reloaded and requests are sent. The last of each is in force.
func TestConcurrentOverridesAndReloads(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := harness.RouteConfig(u, 100)
	p := harness.StartProxy(t, harness.Options{Config: config})
	var changes, requests sync.WaitGroup
	done := make(chan struct{})
	changes.Go(func() {
		for i := range 20 {
			callOverrides(p, setOverridesOperation, fmt.Sprintf(`{"set": {"timeout": %d, "breaker.fail_max": %d}, "duration": "1h"}`, 20+i, 20+i))
			if i%3 == 0 {
				callOverrides(p, endOverridesOperation, "")
			}
		}
	})
	changes.Go(func() {
		for range 20 {
			if r := callAdmin(p, reloadOperation, "", "", nil); r.Status != 200 {
				t.Errorf("%+v", r)
			}
		}
	})
	changes.Go(func() {
		for i := range 20 {
			p.ReplaceConfig(strings.Replace(config, "timeout: 100", fmt.Sprintf("timeout: 100, idle_timeout: %d", 10+i), 1))
		}
	})
	requests.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if r := p.Get("/svc/"); r.Status != 200 {
				t.Errorf("%+v", r)
			}
		}
	})
	changes.Wait()
	close(done)
	requests.Wait()
	harness.Eventually(t, "the last file is active", func() bool {
		return strings.Contains(p.AdminRequest("GET", "/api/v1/config", "").Body, `"idle_timeout":"29s"`)
	})
	if r := routeOf(p); r.Timeout != "39s" || r.Breaker.FailMax != 39 {
		t.Errorf("%+v", r)
	}
	p.Kill()
	p.Start()
	if r := routeOf(p); r.Timeout != "39s" {
		t.Errorf("after a restart: %+v", r)
	}
}
