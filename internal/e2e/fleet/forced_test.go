package fleet

import (
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

func TestOperatorForcesFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	if r := fleet[0].Force("svc", `{"state":"open","duration":"10m","reason":"moving","scope":"fleet"}`); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	harness.AwaitState(t, fleet, "open")
	for _, p := range fleet {
		if f := p.Health().Services["svc"].Forced; f == nil || f.Scope != "fleet" || f.Reason != "moving" || f.Until == nil {
			t.Errorf("forced: %+v", f)
		}
	}
	if r := fleet[1].Force("svc", `{"state":"auto","scope":"fleet"}`); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	harness.Eventually(t, "the released breakers are closed", func() bool {
		fleet[0].Get("/svc")
		fleet[1].Get("/svc")
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed"
	})
	server.Kill()
	if r := fleet[0].Force("svc", `{"state":"open","scope":"fleet"}`); r.Status != 503 || !strings.Contains(r.Body, "fleet") {
		t.Errorf("scope fleet, without Redis: %+v", r)
	}
	if r := fleet[0].Force("svc", `{"state":"open"}`); r.Status != 200 || fleet[0].BreakerState() != "open" {
		t.Errorf("scope instance, without Redis: %+v", r)
	}
}

// TestFleetForcedStateSurvivesRestart checks that a state forced for the fleet keeps its scope after a restart without
// Redis, also if the breaker was in that state when it was forced.
func TestFleetForcedStateSurvivesRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	isFleetForced := func(p *harness.Proxy) bool {
		f := p.Health().Services["svc"].Forced
		return f != nil && f.Scope == "fleet"
	}
	fleet[0].Force("svc", `{"state":"closed","scope":"fleet","reason":"maintenance window"}`)
	harness.Eventually(t, "the other instance is forced", func() bool { return isFleetForced(fleet[1]) })
	harness.Eventually(t, "the other instance has logged the reason", func() bool { return strings.Contains(fleet[1].Log.String(), "maintenance window") })
	fleet[1].Signal(syscall.SIGTERM)
	fleet[1].Wait()
	server.Kill()
	fleet[1].Start()
	if !isFleetForced(fleet[1]) {
		t.Errorf("after a restart: %+v", fleet[1].Health().Services["svc"].Forced)
	}
	server.Restart()
	fleet[0].AwaitRedis(true)
	fleet[1].AwaitRedis(true)
	if r := fleet[0].Force("svc", `{"state":"auto","scope":"fleet"}`); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	harness.Eventually(t, "no instance is forced", func() bool { return !isFleetForced(fleet[0]) && !isFleetForced(fleet[1]) })
}

// TestFleetForcedStateIsRestoredToRedis checks that an instance writes a state forced for the fleet to a Redis that lost it
// while no instance was running, and that it can then be released for the fleet or for one instance.
func TestFleetForcedStateIsRestoredToRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	p.AwaitRedis(true)
	p.Force("svc", `{"state":"open","scope":"fleet","reason":"moving"}`)
	if s := p.BreakerState(); s != "open" {
		t.Fatalf("breaker state %s", s)
	}
	p.Signal(syscall.SIGTERM)
	p.Wait()
	server.Restart() // without its data
	p.Start()
	p.AwaitRedis(true)
	harness.Eventually(t, "the forced state is in Redis", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "forced").Val() == "true"
	})
	joined := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	harness.Eventually(t, "a new instance is forced", func() bool { return joined.BreakerState() == "open" })
	if r := p.Force("svc", `{"state":"auto","scope":"fleet"}`); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	harness.Eventually(t, "no instance is forced", func() bool {
		p.Get("/svc")
		joined.Get("/svc")
		return p.BreakerState() == "closed" && joined.BreakerState() == "closed"
	})
	// A state forced for the fleet can be released for one instance.
	p.Force("svc", `{"state":"open","scope":"fleet"}`)
	harness.Eventually(t, "both instances are forced open", func() bool { return p.BreakerState() == "open" && joined.BreakerState() == "open" })
	p.Force("svc", `{"state":"auto"}`)
	if r := p.Get("/svc"); r.Status != 200 || r.BreakerState() != "half-open" {
		t.Errorf("after the release: %+v", r)
	}
	if s := joined.BreakerState(); s != "open" {
		t.Errorf("the breaker state of the other instance is %s", s)
	}
}
