package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The way into production: a shadow tells what it would have done, an edit makes it do it.
func TestShadowBecomesEnforcedByAnEdit(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	config := func(mode string) string {
		return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, breaker: {mode: %s, fail_max: 2, recovery_timeout: 60}}}\n", u.url(), mode)
	}
	p := startProxy(t, options{config: config("shadow")})
	u.kill()
	for n := range 5 {
		r := p.get("/svc")
		want := "closed"
		if n >= 2 {
			want = "open"
		}
		if r.status != 502 || r.state() != want {
			t.Fatalf("request %d: %+v", n, r)
		}
	}
	const shadowed = `cbproxy_shadow_rejections_total{reason="open",service="svc"}`
	eventually(t, "three would have been rejected", func() bool { return p.metric(shadowed) == 3 })
	if v := p.metric(`enhanced_circuit_breaker_state{service="svc"}`); v != 1 {
		t.Errorf("state metric %v", v)
	}
	const enforced = `cbproxy_enforced{service="svc"}`
	if v := p.metric(enforced); v != 0 {
		t.Errorf("a shadow is told as enforced: %v", v)
	}
	var shown struct {
		Mode  string
		State string `json:"circuit_breaker_state"`
		Count int    `json:"shadow_rejections"`
	}
	res, err := http.Get(p.admin + "/api/v1/circuit-breakers/svc")
	if err := json.Unmarshal([]byte(read(t, res, err).body), &shown); err != nil || shown.Mode != "shadow" || shown.State != "open" || shown.Count != 3 {
		t.Errorf("health shows %+v, %v", shown, err)
	}
	u.start()
	if r := p.get("/svc"); r.status != 200 || r.state() != "open" {
		t.Errorf("a shadow blocked a request: %+v", r)
	}
	since := p.health().Services["svc"].Since
	p.write(config("enforce"))
	eventually(t, "the open breaker is enforced", func() bool { return p.get("/svc").status == 503 })
	if v := p.metric(enforced); v != 1 {
		t.Errorf("it is told as not enforced: %v", v)
	}
	p.write(config("off"))
	eventually(t, "a breaker that is off lets pass", func() bool { return p.get("/svc").status == 200 })
	if s := p.health().Services["svc"]; s.State != "open" || !s.Since.Equal(since) {
		t.Errorf("the edits changed the state: %+v, was open since %v", s, since)
	}
}

// Recovery costs no client's request where the upstream has a path for it.
func TestProbedUpstreamDiesAndComesBack(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, breaker: {fail_max: 1, recovery_timeout: 0.2,"+
		" recovery_backoff: {multiplier: 2, max: 1s}, probe: {path: /hints, interval: 50ms, timeout: 1s}}}}\n", u.url())})
	u.kill()
	p.get("/svc")
	const failed = `cbproxy_probes_total{result="failure",service="svc"}`
	eventually(t, "probes fail while the upstream is dead", func() bool {
		if r := p.get("/svc"); r.status != 503 {
			t.Fatalf("a client's request was sent to a dead upstream: %+v", r)
		}
		return p.metric(failed) >= 2
	})
	u.start()
	eventually(t, "a probe closes the breaker", func() bool { return p.health().Services["svc"].State == "closed" })
	if r := p.get("/svc/requests"); r.body != "0" {
		t.Errorf("%s of the clients' requests went to test the upstream", r.body)
	}
}

// A flaky upstream is hidden from the caller, and every attempt is seen by the breaker.
func TestRetriesAreCounted(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	p := startProxy(t, options{config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, retry: {attempts: 3, backoff: 1ms}, breaker: {fail_max: 9}}}\n", u.url())})
	u.kill()
	if r := p.get("/svc"); r.status != 502 {
		t.Errorf("%+v", r)
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
		eventually(t, fmt.Sprintf("%s is %v", series, want), func() bool { return p.metric(series) == want })
	}
	if s := p.health().Services["svc"]; s.FailCounter != 4 || s.State != "closed" {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(p.log.String(), "upstream failed") {
		t.Error("the failure is not in the log")
	}
}
