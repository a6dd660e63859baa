package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// What docs/migration.md says of timeouts: a caller that gives up before cbproxy does hides a slow upstream
// from it, and one that is more patient doesn't.
func TestCallerTimeoutBelowProxyTimeoutHidesSlowUpstream(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := func(timeout string) string {
		return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: %s, breaker: {mode: shadow, fail_max: 3}}}\n", u.URL(), timeout)
	}
	p := harness.StartProxy(t, harness.Options{Config: config("1h")})
	const cancelled = `enhanced_circuit_breaker_requests_total{service="svc",status="cancelled"}`
	for range 6 {
		ctx, giveUp := context.WithCancel(t.Context())
		asked := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/svc/hang", nil)
			if err == nil {
				_, err = http.DefaultClient.Do(r)
			}
			asked <- err
		}()
		harness.Eventually(t, "the upstream is asked", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
		giveUp()
		if err := <-asked; err == nil {
			t.Fatal("it was answered")
		}
		harness.Eventually(t, "the request is over", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	}
	if s := p.Health().Services["svc"]; s.State != "closed" || p.Metric(cancelled) != 6 {
		t.Errorf("%+v, %v cancelled", s, p.Metric(cancelled))
	}
	p.ReplaceConfig(config("10ms"))
	harness.Eventually(t, "cbproxy gives up first", func() bool { return p.Health().Services["svc"].Configuration.Timeout == 0.01 })
	for range 3 {
		if r := p.Get("/svc/hang"); r.Status != http.StatusGatewayTimeout {
			t.Errorf("%+v", r)
		}
	}
	if s := p.Health().Services["svc"]; s.State != "open" {
		t.Errorf("%+v", s)
	}
}

// A service that goes back from enforced to shadow gives up nothing that it has accepted.
func TestReturnToShadowDeliversQueuedRequests(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	config := func(mode string, fallback bool) string {
		return fmt.Sprintf("routes: {notifier_service: {upstream: %s, fallback_enabled: %t, breaker: {mode: %s, fail_max: 1, recovery_timeout: 0.1}}}\n", u.URL(), fallback, mode)
	}
	post := func(p *harness.Proxy, body string) harness.Response {
		t.Helper()
		res, err := http.Post(p.URL+"/notify/x", "text/plain", strings.NewReader(body))
		return harness.ReadResponse(t, res, err)
	}
	p := harness.StartProxy(t, harness.Options{Config: config("enforce", true)})
	for _, body := range []string{"a", "b"} {
		if r := post(p, body); r.Status != http.StatusAccepted || r.Header.Get("X-Fallback") != "queue" {
			t.Errorf("%s: %+v", body, r)
		}
	}
	p.ReplaceConfig(config("shadow", false))
	harness.Eventually(t, "the step back is in force", func() bool { return p.Metric(`cbproxy_enforced{service="notifier_service"}`) == 0 })
	if r := post(p, "c"); r.Status != http.StatusBadGateway {
		t.Errorf("%+v", r)
	}
	u.Start()
	t.Cleanup(u.Kill)
	if r := post(p, "d"); r.Status != http.StatusOK || r.Header.Get("X-Fallback") != "" {
		t.Errorf("%+v", r)
	}
	harness.Eventually(t, "what was accepted is delivered, and nothing else", func() bool {
		got, more := u.UniqueBodies()
		seen := strings.Join(got, "")
		return more == 0 && len(seen) == 3 && strings.Contains(seen, "a") && strings.Contains(seen, "b") && strings.Contains(seen, "d")
	})
}
