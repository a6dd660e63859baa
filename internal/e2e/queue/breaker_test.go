package queue

import (
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestQueueDetectsUpstreamRecovery checks that the breaker closes without a client's request: by the delivery of the first
// queued request, or by a configured probe.
func TestQueueDetectsUpstreamRecovery(t *testing.T) {
	t.Parallel()
	for name, probe := range map[string]string{"by a delivery": "", "by a probe": ", probe: {path: /healthz, interval: 0.05}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.NewRecorder(t)
			p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 0.3"+probe, "")})
			p.MustQueue("a", "b", "c")
			harness.Eventually(t, "a half-open attempt has failed", func() bool { return p.Health().Services["svc"].Openings > 1 })
			u.Start()
			t.Cleanup(u.Kill)
			p.AwaitEmptyQueue()
			var delivered []string
			for i, q := range u.Records() {
				if q.URL.Path != "/healthz" {
					delivered = append(delivered, q.BodyText)
				} else if i > 0 {
					t.Error("a probe was sent after the recovery")
				}
			}
			if len(delivered) != 3 || delivered[0] != "a" || delivered[2] != "c" || probe != "" && len(u.Records()) != 4 {
				t.Errorf("delivered %q", delivered)
			}
			if s := p.Health().Services["svc"]; s.State != "closed" {
				t.Errorf("after the recovery: %+v", s)
			}
		})
	}
}

// TestForcedOpenStopsDelivery checks that the queue delivers nothing while the breaker is forced open, also after a
// restart.
func TestForcedOpenStopsDelivery(t *testing.T) {
	t.Parallel()
	u := harness.StartRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	harness.ForceState(t, p, "open")
	p.MustQueue("a", "b")
	p.Kill()
	p.Start()
	p.MustQueue("c")
	time.Sleep(1200 * time.Millisecond) // longer than the backoff of the queue
	if n := len(u.Records()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	harness.ForceState(t, p, "auto")
	u.AwaitDelivered("a", "b", "c")
}

// TestQueueLimitsAttemptsToFailingUpstream checks that the queue sends at most fail_max requests to a failing upstream until
// the breaker opens, and two per half-open phase: one request that has failed several times and one that has not.
func TestQueueLimitsAttemptsToFailingUpstream(t *testing.T) {
	t.Parallel()
	const failMax = 3
	u := harness.StartRecorder(t)
	u.SetRules(harness.Rule{Status: 503})
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 3, recovery_timeout: 0.5", "")})
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		p.Post("m")
	}
	reached := len(u.Records())
	openings := int(p.Metric(`cbproxy_state_changes_total{service="svc",to="open"}`))
	if openings < 3 || reached > failMax+2*openings { // two may be in flight
		t.Errorf("%d requests reached the upstream, with %d openings", reached, openings)
	}
	for at, all := failMax, u.Records(); at+2 < len(all); at++ {
		if d := all[at+2].Time.Sub(all[at].Time); d < 300*time.Millisecond {
			t.Errorf("three attempts within %v", d)
		}
	}
	if s, _ := p.Queue(); s.Waiting == 0 || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	u.SetRules()
	p.AwaitEmptyQueue()
}
