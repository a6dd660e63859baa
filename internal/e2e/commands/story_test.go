package commands

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestUpstreamFailsAndRecovers checks the states, responses and metrics while an upstream is killed and restarted, as the
// README describes them.
func TestUpstreamFailsAndRecovers(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "routes: {rag_service: {upstream: " + u.URL() + "}}\n",
		Env: []string{"CIRCUIT_BREAKER_RAG_FAIL_MAX=3", "CIRCUIT_BREAKER_RAG_RECOVERY_TIMEOUT=2"}})
	if r := p.Get("/rag/a%2Fb?q=%"); r.Status != 200 || r.BreakerState() != "closed" || !strings.Contains(r.Body, `"target":"/a%2Fb?q=%"`) {
		t.Fatalf("with a healthy upstream: %+v", r)
	} else if r.Header.Get("X-Fallback") != "" || len(r.Header.Values("X-Circuit-Breaker-State")) != 1 {
		t.Errorf("the upstream's copies of the proxy's header fields are not removed: %v", r.Header)
	}
	u.Kill()
	for i := range 3 {
		r := p.Get("/rag/q")
		if r.Status != 200 || r.BreakerState() != "closed" || r.Header.Get("X-Fallback-Reason") == "open" {
			t.Fatalf("failure %d: %+v", i+1, r)
		}
	}
	r := p.Get("/rag/q")
	if r.Status != 200 || r.BreakerState() != "open" || r.Header.Get("X-Fallback") != "static" || r.Header.Get("X-Fallback-Reason") != "open" ||
		r.Header.Get("X-Circuit-Breaker-Service") != "rag_service" || !strings.HasPrefix(r.Header.Get("Proxy-Status"), "cbproxy") {
		t.Fatalf("after three failures: %+v", r)
	}
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || s < 1 || s > 2 {
		t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
	}
	if h := p.Health(); h.Status != "critical" || h.Services["rag_service"].State != "open" || h.Services["rag_service"].FailCounter != 3 {
		t.Errorf("health %+v", h)
	}
	if v := p.Metric(`enhanced_circuit_breaker_state{service="rag_service"}`); v != 1 {
		t.Errorf("state metric %v while open", v)
	}
	u.Start()
	harness.Eventually(t, "half-open after the recovery timeout", func() bool { return p.Health().Services["rag_service"].State == "half-open" })
	if v := p.Metric(`enhanced_circuit_breaker_state{service="rag_service"}`); v != 2 {
		t.Errorf("state metric %v while half-open", v)
	}
	if r := p.Get("/rag/q"); r.Status != 200 || r.BreakerState() != "half-open" || r.Header.Get("X-Fallback") != "" {
		t.Errorf("the probe: %+v", r)
	}
	if r := p.Get("/rag/q"); r.BreakerState() != "closed" {
		t.Errorf("after the probe: %+v", r)
	}
	for series, want := range map[string]float64{
		`enhanced_circuit_breaker_requests_total{service="rag_service",status="success"}`:                 3,
		`enhanced_circuit_breaker_requests_total{service="rag_service",status="failure"}`:                 3,
		`enhanced_circuit_breaker_requests_total{service="rag_service",status="rejected"}`:                1,
		`enhanced_circuit_breaker_requests_total{service="rag_service",status="cancelled"}`:               0,
		`enhanced_circuit_breaker_fallbacks_total{reason="open",service="rag_service",strategy="static"}`: 1,
		`enhanced_circuit_breaker_failures_total{error_type="slow",service="rag_service"}`:                0,
		`enhanced_circuit_breaker_response_time_seconds_count{service="rag_service"}`:                     6,
		`cbproxy_state_changes_total{service="rag_service",to="open"}`:                                    1,
		`cbproxy_state_changes_total{service="rag_service",to="closed"}`:                                  1,
		`cbproxy_requests_in_flight{service="rag_service"}`:                                               0,
	} {
		harness.Eventually(t, fmt.Sprintf("%s is %v", series, want), func() bool { return p.Metric(series) == want })
	}
	if lines := strings.Count(p.Log.String(), `"circuit breaker changed its state"`); lines != 3 {
		t.Errorf("%d log lines for 3 state changes:\n%s", lines, p.Log)
	}
}

// TestPausedUpstreamTimesOutAndRecovers checks that requests time out if a paused process accepts
// connections without responding.
func TestPausedUpstreamTimesOutAndRecovers(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: 0.3, breaker: {fail_max: 2, recovery_timeout: 0.5}}}\n", u.URL())})
	p.Get("/svc")
	u.Pause()
	for range 2 {
		if r := p.Get("/svc"); r.Status != 504 || !strings.Contains(r.Header.Get("Proxy-Status"), "http_response_timeout") ||
			r.Header.Get("Content-Type") != "application/problem+json" || strings.Contains(r.Body, u.Address) {
			t.Fatalf("while paused: %+v", r)
		}
	}
	if r := p.Get("/svc"); r.Status != 503 || r.BreakerState() != "open" {
		t.Fatalf("after two timeouts: %+v", r)
	}
	u.Resume()
	harness.Eventually(t, "the breaker is closed", func() bool { r := p.Get("/svc"); return r.Status == 200 && r.BreakerState() == "closed" })
	if v := p.Metric(`enhanced_circuit_breaker_failures_total{error_type="timeout",service="svc"}`); v < 2 {
		t.Errorf("%v timeouts counted, want at least 2", v)
	}
}

// TestBuiltInServicesNeedOnlyAnUpstream checks the prefixes, fallbacks and fail_max of the built-in services.
func TestBuiltInServicesNeedOnlyAnUpstream(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: `
routes:
  rag_service: {upstream: "http://127.0.0.1:1"}
  rule_generation_service: {upstream: "http://127.0.0.1:1"}
  notifier_service: {upstream: "http://127.0.0.1:1"}
  vms_service: {upstream: "http://127.0.0.1:1"}
  prediction_service: {upstream: "http://127.0.0.1:1"}
`})
	for path, want := range map[string]struct {
		status int
		fields map[string]string // JSON values by key
		keys   []string          // further keys that must be present
	}{
		"/rag":     {200, map[string]string{"retrieved_context": "[]", "confidence_score": "0.0"}, []string{"linked_explanation", "fallback_reason"}},
		"/rules":   {200, map[string]string{"rules_triggered": "[]", "severity": `"medium"`, "confidence": "0.5"}, []string{"explanation", "fallback_reason"}},
		"/notify":  {503, map[string]string{"notification_queued": "false", "retry_scheduled": "false"}, []string{"status", "message"}},
		"/vms":     {200, map[string]string{"status": `"unavailable"`, "cameras": "[]"}, []string{"fallback_reason"}},
		"/predict": {200, map[string]string{"predictions": "[]", "confidence": "0.0"}, []string{"fallback_reason"}},
	} {
		r := p.Get(path + "/x")
		var body map[string]json.RawMessage
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil || r.Status != want.status || r.Header.Get("X-Fallback-Reason") != "connect" {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
		for key, value := range want.fields {
			if string(body[key]) != value {
				t.Errorf("%s: %s is %s, want %s", path, key, body[key], value)
			}
		}
		for _, key := range want.keys {
			if body[key] == nil {
				t.Errorf("%s: no %s in %s", path, key, r.Body)
			}
		}
	}
	for service, failMax := range map[string]int{"rag_service": 5, "rule_generation_service": 3, "notifier_service": 4, "vms_service": 6, "prediction_service": 4} {
		if got := p.Health().Services[service].Configuration.FailMax; got != failMax {
			t.Errorf("%s: fail_max %d, want %d", service, got, failMax)
		}
	}
}
