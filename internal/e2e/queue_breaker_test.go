package e2e

import (
	"testing"
	"time"
)

// TestQueueDetectsUpstreamRecovery checks that the queue detects the upstream's recovery without any other
// request.
func TestQueueDetectsUpstreamRecovery(t *testing.T) {
	t.Parallel()
	for name, probe := range map[string]string{"with its head": "", "with a probe": ", probe: {path: /healthz, interval: 0.05}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newRecorder(t)
			p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 0.3"+probe, "")})
			p.mustQueue("a", "b", "c")
			eventually(t, "a recovery has failed", func() bool { return p.health().Services["svc"].Openings > 1 })
			u.start()
			t.Cleanup(u.kill)
			p.drained()
			var delivered []string
			for i, q := range u.records() {
				if q.URL.Path != "/healthz" {
					delivered = append(delivered, q.body)
				} else if i > 0 {
					t.Errorf("probed after the recovery")
				}
			}
			if len(delivered) != 3 || delivered[0] != "a" || delivered[2] != "c" || probe != "" && len(u.records()) != 4 {
				t.Errorf("delivered %q", delivered)
			}
			if s := p.health().Services["svc"]; s.State != "closed" {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestForcedOpenStopsDelivery checks that a forced state applies to the queue too.
func TestForcedOpenStopsDelivery(t *testing.T) {
	t.Parallel()
	u := startRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	forceTo(t, p, "open")
	p.mustQueue("a", "b")
	p.kill()
	p.start()
	p.mustQueue("c")
	time.Sleep(1200 * time.Millisecond) // longer than the queue waits between attempts
	if n := len(u.records()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	forceTo(t, p, "auto")
	u.awaitTaken("a", "b", "c")
}

// TestQueueLimitsAttemptsToFailingUpstream checks that the queue sends a failing upstream at most fail_max
// requests, and two probes for each recovery: one request that has failed several times and one that has
// not.
func TestQueueLimitsAttemptsToFailingUpstream(t *testing.T) {
	t.Parallel()
	const failMax = 3
	u := startRecorder(t)
	u.answer(rule{Status: 503})
	p := startProxy(t, options{config: queueRouteWith(u.upstreamProcess, "fail_max: 3, recovery_timeout: 0.5", "")})
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		p.post("m")
	}
	reached := len(u.records())
	openings := int(p.metric(`cbproxy_state_changes_total{service="svc",to="open"}`))
	if openings < 3 || reached > failMax+2*openings { // two may be in flight
		t.Errorf("%d requests reached the upstream in %d openings", reached, openings)
	}
	for at, all := failMax, u.records(); at+2 < len(all); at++ {
		if d := all[at+2].at.Sub(all[at].at); d < 300*time.Millisecond {
			t.Errorf("attempt %v after a failure", d)
		}
	}
	if s, _ := p.backlog(); s.Waiting == 0 || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	u.answer()
	p.drained()
}
