package fleet

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// startAdaptiveFleet starts n instances that learn, and lets each one learn from a different number of good calls. The upstream
// answers requests to /svc/fail with 500. redis is the section of that name without the URL, and adaptive that of the breaker.
func startAdaptiveFleet(t *testing.T, n int, redis, adaptive, breaker string) ([]*harness.Proxy, *redistest.Server) {
	t.Helper()
	server := redistest.Start(t)
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fail" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(u.Close)
	breaker = fmt.Sprintf("fail_max: 20, %s, adaptive: {%s, warmup: {calls: 50, time: 0s}}", breaker, adaptive)
	fleet := harness.StartFleet(t, n, harness.Options{Config: harness.RedisConfig(fmt.Sprintf("url: %q%s", server.URL(), redis), u.URL, breaker)})
	for i, p := range fleet {
		for range 100 + 10*i {
			if r := p.Get("/svc"); r.Status != http.StatusOK {
				t.Fatalf("%+v", r)
			}
		}
	}
	return fleet, server
}

// openByEvidence makes calls fail through an instance until its breaker is open.
func openByEvidence(t *testing.T, p *harness.Proxy) {
	t.Helper()
	before := len(p.History("svc"))
	for n := 1; p.Get("/svc/fail").BreakerState() == "closed"; n++ {
		if n >= 20 {
			t.Fatal("the evidence has not opened the breaker")
		}
	}
	harness.Eventually(t, "the opening is in the history", func() bool { return len(p.History("svc")) > before })
	if c := p.History("svc")[0]; c.To != "open" || c.Cause != "adaptive" || p.Health().Services["svc"].Cause != "adaptive" {
		t.Fatalf("%+v", c)
	}
}

// closeBy sends requests through the given instances until all of the fleet are closed.
func closeBy(t *testing.T, fleet []*harness.Proxy, path string, probers ...*harness.Proxy) {
	t.Helper()
	harness.Eventually(t, "all breakers are closed", func() bool {
		for _, p := range probers {
			p.Get(path)
		}
		return !slices.ContainsFunc(fleet, func(p *harness.Proxy) bool { return p.BreakerState() != "closed" })
	})
}

// checkVerdicts checks the verdicts on the openings of an instance.
func checkVerdicts(t *testing.T, p *harness.Proxy, earlier, onlyAdaptive, refuted int) {
	t.Helper()
	got := p.Baseline().Openings
	if got["earlier"] != earlier || got["only_adaptive"] != onlyAdaptive || got["refuted"] != refuted {
		t.Errorf("verdicts %v, want %d earlier, %d only adaptive, %d refuted", got, earlier, onlyAdaptive, refuted)
	}
}

// TestAdaptiveOpeningOpensFleet checks that an opening by the evidence opens the other instances, that what was learnt is not shared, and
// that the probe of another instance is the verdict on the opening.
func TestAdaptiveOpeningOpensFleet(t *testing.T) {
	t.Parallel()
	fleet, server := startAdaptiveFleet(t, 3, "", "mode: enforce", "recovery_timeout: 3")
	openByEvidence(t, fleet[0])
	harness.Eventually(t, "the opening is in Redis", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "cause").Val() == "adaptive"
	})
	for i, p := range fleet[1:] {
		harness.Eventually(t, fmt.Sprintf("instance %d has opened", i+1), func() bool {
			return strings.Contains(p.Log.String(), `"to":"open","cause":"fleet"`)
		})
	}
	for _, key := range server.Client().Keys(t.Context(), "*").Val() {
		if !strings.HasPrefix(key, "circuit_breaker_") {
			t.Errorf("Redis has the key %s", key)
		}
	}
	closeBy(t, fleet, "/svc", fleet[1]) // the only one with traffic
	checkVerdicts(t, fleet[0], 0, 0, 1)
	for i, p := range fleet {
		if i > 0 {
			checkVerdicts(t, p, 0, 0, 0)
		}
		if b := p.Baseline(); b.Calls < 100+10*i || b.Calls > 105+10*i || b.Evidence != 0 {
			t.Errorf("instance %d has learnt %+v", i, b)
		}
	}

	openByEvidence(t, fleet[0])
	harness.Eventually(t, "a probe has failed", func() bool {
		fleet[2].Get("/svc/fail")
		return fleet[2].Metric(`cbproxy_state_changes_total{service="svc",to="open"}`) > 2
	})
	closeBy(t, fleet, "/svc", fleet[2])
	checkVerdicts(t, fleet[0], 1, 0, 1)
}

// TestQuorumOfAdaptiveOpenings checks that, with a quorum of two, one opening by the evidence opens no other instance, and two open all.
func TestQuorumOfAdaptiveOpenings(t *testing.T) {
	t.Parallel()
	fleet, server := startAdaptiveFleet(t, 3, ", share: {quorum: 2}", "mode: enforce", "recovery_timeout: 600, window: 600")
	openByEvidence(t, fleet[0])
	harness.Eventually(t, "the finding is in Redis", func() bool {
		return server.Client().HExists(t.Context(), "circuit_breaker_state:svc", "finding:"+fleet[0].Health().Instance).Val()
	})
	for i, p := range fleet {
		want := "closed"
		if i == 0 {
			want = "open"
		}
		if r := p.Get("/svc"); r.BreakerState() != want {
			t.Errorf("instance %d: %+v", i, r)
		}
	}
	openByEvidence(t, fleet[1])
	harness.AwaitState(t, fleet, "open")
	if s := fleet[2].Health().Services["svc"]; s.Cause != "fleet" || fleet[2].Metric(`enhanced_circuit_breaker_failures_total{error_type="status",service="svc"}`) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestForcedFleetGivesNoVerdictOnAdaptiveOpening checks that an operator who ends an opening for the fleet, at another instance, leaves it
// without a verdict.
func TestForcedFleetGivesNoVerdictOnAdaptiveOpening(t *testing.T) {
	t.Parallel()
	fleet, _ := startAdaptiveFleet(t, 2, "", "mode: enforce", "recovery_timeout: 600")
	for _, state := range []string{"half-open", "closed"} {
		openByEvidence(t, fleet[0])
		harness.AwaitState(t, fleet, "open")
		if r := fleet[1].Force("svc", `{"state": "`+state+`", "scope": "fleet"}`); r.Status != http.StatusOK {
			t.Fatalf("%+v", r)
		}
		closeBy(t, fleet, "/svc", fleet...)
		if r := fleet[1].Force("svc", `{"state": "auto", "scope": "fleet"}`); r.Status != http.StatusOK {
			t.Fatalf("%+v", r)
		}
		for _, p := range fleet {
			harness.Eventually(t, "the state is not forced", func() bool { return p.Health().Services["svc"].Forced == nil })
			checkVerdicts(t, p, 0, 0, 0)
		}
	}
}

// TestShadowEvidenceOpensNoFleet checks that complete evidence in shadow mode is only reported, while the fleet still opens an instance in
// that mode.
func TestShadowEvidenceOpensNoFleet(t *testing.T) {
	t.Parallel()
	fleet, server := startAdaptiveFleet(t, 2, "", "mode: shadow", "recovery_timeout: 3")
	for range 15 {
		fleet[0].Get("/svc/fail")
	}
	harness.Eventually(t, "the evidence is in the log", func() bool {
		return strings.Contains(fleet[0].Log.String(), "failures are unlikely for a healthy upstream")
	})
	if b := fleet[0].Baseline(); b.Evidence != 1 || b.Mode != "shadow" {
		t.Errorf("%+v", b)
	}
	for i, p := range fleet {
		if r := p.Get("/svc"); r.BreakerState() != "closed" {
			t.Errorf("instance %d: %+v", i, r)
		}
	}
	if s := server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val(); s == "open" {
		t.Error("Redis has an opening")
	}
	for range 20 { // fail_max of the other instance
		fleet[1].Get("/svc/fail")
	}
	harness.Eventually(t, "the first instance has opened", func() bool {
		return strings.Contains(fleet[0].Log.String(), `"to":"open","cause":"fleet"`)
	})
	closeBy(t, fleet, "/svc", fleet...)
	checkVerdicts(t, fleet[0], 0, 0, 0)
	checkVerdicts(t, fleet[1], 1, 0, 0)
}
