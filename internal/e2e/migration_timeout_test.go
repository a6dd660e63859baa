package e2e

import (
	"context"
	"fmt"
	"net/http"
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
