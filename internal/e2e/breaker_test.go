package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestShadowModeIsEnforcedAfterReload checks that a breaker in shadow mode reports what it would reject, that it rejects
// after a reload with mode enforce, and that changes of the mode keep its state.
func TestShadowModeIsEnforcedAfterReload(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := func(mode string) string {
		return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, breaker: {mode: %s, fail_max: 2, recovery_timeout: 60}}}\n", u.URL(), mode)
	}
	p := harness.StartProxy(t, harness.Options{Config: config("shadow")})
	u.Kill()
	for n := range 5 {
		r := p.Get("/svc")
		want := "closed"
		if n >= 2 {
			want = "open"
		}
		if r.Status != 502 || r.BreakerState() != want {
			t.Fatalf("request %d: %+v", n, r)
		}
	}
	const shadowRejections = `cbproxy_shadow_rejections_total{reason="open",service="svc"}`
	harness.Eventually(t, "three shadow rejections are counted", func() bool { return p.Metric(shadowRejections) == 3 })
	if v := p.Metric(`enhanced_circuit_breaker_state{service="svc"}`); v != 1 {
		t.Errorf("state metric %v, want 1", v)
	}
	const enforced = `cbproxy_enforced{service="svc"}`
	if v := p.Metric(enforced); v != 0 {
		t.Errorf("cbproxy_enforced is %v in shadow mode", v)
	}
	var shown struct {
		Mode  string
		State string `json:"circuit_breaker_state"`
		Count int    `json:"shadow_rejections"`
	}
	res, err := http.Get(p.AdminURL + "/api/v1/circuit-breakers/svc")
	if err := json.Unmarshal([]byte(harness.ReadResponse(t, res, err).Body), &shown); err != nil || shown.Mode != "shadow" || shown.State != "open" || shown.Count != 3 {
		t.Errorf("health shows %+v, %v", shown, err)
	}
	u.Start()
	if r := p.Get("/svc"); r.Status != 200 || r.BreakerState() != "open" {
		t.Errorf("a request in shadow mode: %+v", r)
	}
	since := p.Health().Services["svc"].Since
	p.WriteConfig(config("enforce"))
	harness.Eventually(t, "the open breaker is enforced", func() bool { return p.Get("/svc").Status == 503 })
	if v := p.Metric(enforced); v != 1 {
		t.Errorf("cbproxy_enforced is %v in enforce mode", v)
	}
	p.WriteConfig(config("off"))
	harness.Eventually(t, "a breaker with mode off permits requests", func() bool { return p.Get("/svc").Status == 200 })
	if s := p.Health().Services["svc"]; s.State != "open" || !s.Since.Equal(since) {
		t.Errorf("changes of the mode changed the state: %+v, was open since %v", s, since)
	}
}

// TestProbesCloseBreakerAfterOutage checks that with probe.path only probes, and no requests of clients, test an upstream
// during its outage.
func TestProbesCloseBreakerAfterOutage(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, breaker: {fail_max: 1, recovery_timeout: 0.2,"+
		" recovery_backoff: {multiplier: 2, max: 1s}, probe: {path: /hints, interval: 50ms, timeout: 1s}}}}\n", u.URL())})
	u.Kill()
	p.Get("/svc")
	const failed = `cbproxy_probes_total{result="failure",service="svc"}`
	harness.Eventually(t, "probes fail while the upstream is dead", func() bool {
		if r := p.Get("/svc"); r.Status != 503 {
			t.Fatalf("a client's request was sent to a dead upstream: %+v", r)
		}
		return p.Metric(failed) >= 2
	})
	u.Start()
	harness.Eventually(t, "a probe closes the breaker", func() bool { return p.Health().Services["svc"].State == "closed" })
	if r := p.Get("/svc/requests"); r.Body != "0" {
		t.Errorf("%s requests of clients reached the upstream", r.Body)
	}
}

// TestEveryAttemptIsCounted checks that the breaker and the metrics count each attempt of a retried request.
func TestEveryAttemptIsCounted(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, retry: {attempts: 3, backoff: 1ms}, breaker: {fail_max: 9}}}\n", u.URL())})
	u.Kill()
	if r := p.Get("/svc"); r.Status != 502 {
		t.Errorf("response %+v, want status 502", r)
	}
	for series, want := range map[string]float64{
		`enhanced_circuit_breaker_requests_total{service="svc",status="failure"}`:       1,
		`enhanced_circuit_breaker_failures_total{error_type="connect",service="svc"}`:   4,
		`cbproxy_upstream_attempts_total{service="svc"}`:                                4,
		`cbproxy_upstream_retries_total{service="svc"}`:                                 3,
		`enhanced_circuit_breaker_response_time_seconds_count{service="svc"}`:           1,
		`enhanced_circuit_breaker_requests_total{service="svc",status="cancelled"}`:     0,
		`cbproxy_retry_budget_spent_total{service="svc"}`:                               0,
		`cbproxy_requests_shed_total{limit="route",service="svc"}`:                      0,
		`enhanced_circuit_breaker_failures_total{error_type="truncated",service="svc"}`: 0,
	} {
		harness.Eventually(t, fmt.Sprintf("%s is %v", series, want), func() bool { return p.Metric(series) == want })
	}
	if s := p.Health().Services["svc"]; s.FailCounter != 4 || s.State != "closed" {
		t.Errorf("service %+v, want 4 failures and a closed breaker", s)
	}
	if !strings.Contains(p.Log.String(), "upstream failed") {
		t.Error("the failure is not logged")
	}
}

// TestForcedStatesApplyAndExpire forces each state, with and without a duration.
func TestForcedStatesApplyAndExpire(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 1)})
	if r := p.Force("svc", `{"state":"open","reason":"maintenance"}`); r.Status != 200 || !strings.Contains(r.Body, `"circuit_breaker_state":"open"`) {
		t.Fatalf("forced open: %+v", r)
	}
	if r := p.Get("/svc"); r.Status != 503 || r.BreakerState() != "open" || r.Header.Get("Retry-After") != "" {
		t.Errorf("forced open without a duration: %+v", r)
	}
	if h := p.Health(); h.Services["svc"].Forced == nil || h.Services["svc"].Forced.Reason != "maintenance" || h.Status != "critical" {
		t.Errorf("health %+v", h)
	}
	p.Force("svc", `{"state":"auto"}`)
	if r := p.Get("/svc"); r.Status != 200 || r.BreakerState() != "half-open" {
		t.Errorf("after the release: %+v", r)
	}
	p.Force("svc", `{"state":"open","duration":"1s"}`)
	if r := p.Get("/svc"); r.Status != 503 || r.Header.Get("Retry-After") != "1" {
		t.Errorf("forced open for a second: %+v", r)
	}
	harness.Eventually(t, "the forced state expires", func() bool { return p.Health().Services["svc"].Forced == nil })
	p.Get("/svc")
	u.Kill()
	p.Force("svc", `{"state":"closed"}`)
	for range 5 {
		if r := p.Get("/svc"); r.Status != 502 || r.BreakerState() != "closed" {
			t.Fatalf("forced closed with a dead upstream: %+v", r)
		}
	}
	p.Force("svc", `{"state":"half-open"}`)
	if r := p.Get("/svc"); r.Status != 502 || r.BreakerState() != "half-open" {
		t.Errorf("forced half-open: %+v", r)
	}
	if r := p.Get("/svc"); r.BreakerState() != "open" {
		t.Errorf("after the failed probe: %+v", r)
	}
}
