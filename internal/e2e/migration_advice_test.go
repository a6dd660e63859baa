package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What docs/migration.md says of timeouts: a caller that gives up before cbproxy does hides a slow upstream
// from it, and one that is more patient doesn't.
func TestImpatientCallersHideASlowUpstream(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	config := func(timeout string) string {
		return fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: %s, breaker: {mode: shadow, fail_max: 3}}}\n", u.url(), timeout)
	}
	p := startProxy(t, options{config: config("1h")})
	const cancelled = `enhanced_circuit_breaker_requests_total{service="svc",status="cancelled"}`
	for range 6 {
		ctx, giveUp := context.WithCancel(t.Context())
		asked := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.data+"/svc/hang", nil)
			if err == nil {
				_, err = http.DefaultClient.Do(r)
			}
			asked <- err
		}()
		eventually(t, "the upstream is asked", func() bool { return p.metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
		giveUp()
		if err := <-asked; err == nil {
			t.Fatal("it was answered")
		}
		eventually(t, "the request is over", func() bool { return p.metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	}
	if s := p.health().Services["svc"]; s.State != "closed" || p.metric(cancelled) != 6 {
		t.Errorf("%+v, %v cancelled", s, p.metric(cancelled))
	}
	p.replace(config("10ms"))
	eventually(t, "cbproxy gives up first", func() bool { return p.health().Services["svc"].Configuration.Timeout == 0.01 })
	for range 3 {
		if r := p.get("/svc/hang"); r.status != http.StatusGatewayTimeout {
			t.Errorf("%+v", r)
		}
	}
	if s := p.health().Services["svc"]; s.State != "open" {
		t.Errorf("%+v", s)
	}
}

// A service that goes back from enforced to shadow gives up nothing that it has accepted.
func TestStepBackDeliversWhatIsQueued(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	config := func(mode string, fallback bool) string {
		return fmt.Sprintf("routes: {notifier_service: {upstream: %s, fallback_enabled: %t, breaker: {mode: %s, fail_max: 1, recovery_timeout: 0.1}}}\n", u.url(), fallback, mode)
	}
	post := func(p *proxyProcess, body string) response {
		t.Helper()
		res, err := http.Post(p.data+"/notify/x", "text/plain", strings.NewReader(body))
		return read(t, res, err)
	}
	p := startProxy(t, options{config: config("enforce", true)})
	for _, body := range []string{"a", "b"} {
		if r := post(p, body); r.status != http.StatusAccepted || r.header.Get("X-Fallback") != "queue" {
			t.Errorf("%s: %+v", body, r)
		}
	}
	p.replace(config("shadow", false))
	eventually(t, "the step back is in force", func() bool { return p.metric(`cbproxy_enforced{service="notifier_service"}`) == 0 })
	if r := post(p, "c"); r.status != http.StatusBadGateway {
		t.Errorf("%+v", r)
	}
	u.start()
	t.Cleanup(u.kill)
	if r := post(p, "d"); r.status != http.StatusOK || r.header.Get("X-Fallback") != "" {
		t.Errorf("%+v", r)
	}
	eventually(t, "what was accepted is delivered, and nothing else", func() bool {
		got, more := u.unique()
		seen := strings.Join(got, "")
		return more == 0 && len(seen) == 3 && strings.Contains(seen, "a") && strings.Contains(seen, "b") && strings.Contains(seen, "d")
	})
}
