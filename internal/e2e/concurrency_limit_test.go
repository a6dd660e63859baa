package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestConcurrencyLimitIsShown checks what health and metrics tell of the limit on requests in flight: that it was found and is kept by
// a reload, that it is a number, and that there is none.
func TestConcurrencyLimitIsShown(t *testing.T) {
	t.Parallel()
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(u.Close)
	config := func(limit, more string) string {
		return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %q, max_in_flight: %s%s}}\n", u.URL, limit, more)
	}
	const series = `cbproxy_concurrency_limit{service="svc"}`
	p := harness.StartProxy(t, harness.Options{Config: config("auto", "")})
	shown := func(want string, metric float64) bool {
		r := p.AdminRequest("GET", "/api/v1/circuit-breakers/health", harness.AdminToken)
		return strings.Contains(r.Body, `"concurrency_limit":`+want+`,`) && p.Metric(series) == metric
	}
	if !shown(`{"limit":10,"in_flight":0,"auto":true}`, 10) {
		t.Error("the limit at the start is not shown")
	}
	p.Get("/svc")
	harness.Eventually(t, "the limit has shrunk", func() bool { return shown(`{"limit":9,"in_flight":0,"auto":true}`, 9) })
	reload := func(config, seen string) {
		p.ReplaceConfig(config)
		harness.Eventually(t, "the configuration is in force", func() bool {
			return strings.Contains(p.AdminRequest("GET", "/api/v1/config", harness.AdminToken).Body, seen)
		})
	}
	reload(config("auto", ", timeout: 7s"), `"timeout":"7s"`)
	if !shown(`{"limit":9,"in_flight":0,"auto":true}`, 9) {
		t.Error("a reload has changed the limit")
	}
	reload(config("7", ""), `"max_in_flight":7`)
	if !shown(`{"limit":7,"in_flight":0,"auto":false}`, 7) {
		t.Error("a number is not shown")
	}
	reload(config("0", ", timeout: 8s"), `"timeout":"8s"`)
	if r := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc", harness.AdminToken); !strings.Contains(r.Body, `"concurrency_limit":null`) {
		t.Errorf("without a limit: %s", r.Body)
	}
	if strings.Contains(p.Metrics(), series) {
		t.Error("a service without a limit has a series")
	}
}
