package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestCallerTimeoutBelowProxyTimeoutHidesSlowUpstream checks what docs/migration.md says of timeouts: requests that the
// caller cancels before cbproxy's timeout do not open the breaker, and requests that exceed cbproxy's timeout do.
func TestCallerTimeoutBelowProxyTimeoutHidesSlowUpstream(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := func(timeout string) string {
		return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: %s, breaker: {mode: shadow, fail_max: 3}}}\n", u.URL(), timeout)
	}
	p := harness.StartProxy(t, harness.Options{Config: config("1h")})
	const cancelled = `enhanced_circuit_breaker_requests_total{service="svc",status="cancelled"}`
	for range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/svc/hang", nil)
			if err == nil {
				_, err = http.DefaultClient.Do(r)
			}
			result <- err
		}()
		harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
		cancel()
		if err := <-result; err == nil {
			t.Fatal("the cancelled request got a response")
		}
		harness.Eventually(t, "the request has ended", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	}
	if s := p.Health().Services["svc"]; s.State != "closed" || p.Metric(cancelled) != 6 {
		t.Errorf("service %+v, %v requests are counted as cancelled, want 6", s, p.Metric(cancelled))
	}
	p.ReplaceConfig(config("10ms"))
	harness.Eventually(t, "cbproxy's timeout is the shorter one", func() bool { return p.Health().Services["svc"].Configuration.Timeout == 0.01 })
	for range 3 {
		if r := p.Get("/svc/hang"); r.Status != http.StatusGatewayTimeout {
			t.Errorf("%+v, want status 504", r)
		}
	}
	if s := p.Health().Services["svc"]; s.State != "open" {
		t.Errorf("service %+v, want an open breaker", s)
	}
}
