package fleet

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

func TestFleetLearnsFromTheFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 3, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`", namespace: "e2e:", ttl: 600`, u.URL(), "fail_max: 3, recovery_timeout: 3")})
	for _, p := range fleet {
		p.Get("/svc")
	}
	u.Kill()
	for range 3 {
		fleet[0].Get("/svc")
	}
	harness.AwaitState(t, fleet, "open")
	end := fleet[0].Health().Services["svc"].RetryAt
	for i, p := range fleet {
		s := p.Health().Services["svc"]
		if s.RetryAt == nil || s.RetryAt.Sub(*end).Abs() > 100*time.Millisecond || i > 0 && s.Cause != "fleet" {
			t.Errorf("proxy %d: %+v", i, s)
		}
		if r := p.Get("/svc"); r.BreakerState() != "open" || r.Header.Get("Retry-After") == "" {
			t.Errorf("proxy %d: %+v", i, r)
		}
		if i > 0 && p.Metric(`cbproxy_upstream_attempts_total{service="svc"}`) != 1 {
			t.Errorf("proxy %d asked the dead upstream", i)
		}
	}
	checkKeys(t, server, fleet[0].Health().Instance)

	u.Start()
	harness.Eventually(t, "all are closed again", func() bool {
		for _, p := range fleet {
			p.Get("/svc")
		}
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed" && fleet[2].BreakerState() == "closed"
	})
	own := 0
	for _, p := range fleet {
		if p.History("svc")[0].Cause == "probes_succeeded" && p.Health().Services["svc"].Cause == "probes_succeeded" {
			own++
		}
	}
	if own != 1 {
		t.Errorf("%d instances probed, want one", own)
	}
	others := 0
	for _, c := range fleet[0].History("svc") {
		if c.Instance != fleet[0].Health().Instance {
			others++
		}
	}
	if others == 0 {
		t.Error("the history tells nothing of the others")
	}
}

// checkKeys checks what stands in Redis while the service is open.
func checkKeys(t *testing.T, server *redistest.Server, instance string) {
	t.Helper()
	client, ctx := server.Client(), t.Context()
	fields, err := client.HGetAll(ctx, "e2e:circuit_breaker_state:svc").Result()
	if err != nil || fields["service_name"] != "svc" || fields["state"] != "open" || fields["fail_counter"] != "3" || fields["instance"] != instance {
		t.Errorf("state: %v, %v", fields, err)
	}
	opened, err1 := time.Parse(time.RFC3339Nano, fields["opened_at"])
	until, err2 := time.Parse(time.RFC3339Nano, fields["until"])
	_, err3 := time.Parse(time.RFC3339Nano, fields["timestamp"])
	epoch, err4 := strconv.ParseUint(fields["epoch"], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || until.Sub(opened) != 3*time.Second || epoch == 0 {
		t.Errorf("state: %v", fields)
	}
	if ttl := client.TTL(ctx, "e2e:circuit_breaker_state:svc").Val(); ttl <= 0 || ttl > 600*time.Second {
		t.Errorf("the state expires in %v", ttl)
	}
	changes, err := client.XRange(ctx, "e2e:circuit_breaker_history:svc", "-", "+").Result()
	if err != nil || len(changes) != 1 || changes[0].Values["to"] != "open" || changes[0].Values["instance"] != instance {
		t.Errorf("history: %v, %v", changes, err)
	}
}

func TestQuorumKeepsOneBrokenNetworkFromClosingTheService(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	redis := `url: "` + server.URL() + `", share: {quorum: 2}`
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(redis, u.URL(), "fail_max: 2, recovery_timeout: 60")})
	broken := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(redis, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")})
	for range 3 {
		broken[0].Get("/svc")
	}
	if s := broken[0].BreakerState(); s != "open" {
		t.Fatalf("it is %s by its own verdict", s)
	}
	harness.Eventually(t, "its finding is told", func() bool {
		return server.Client().HExists(t.Context(), "circuit_breaker_state:svc", "finding:"+broken[0].Health().Instance).Val()
	})
	for _, p := range fleet {
		if r := p.Get("/svc"); r.BreakerState() != "closed" || r.Status != 200 {
			t.Errorf("another one: %+v", r)
		}
	}
	if s := broken[0].BreakerState(); s != "open" {
		t.Errorf("its own verdict became %s", s)
	}
	for range 3 {
		broken[1].Get("/svc")
	}
	harness.AwaitState(t, fleet, "open")
}

// Without a store of its own, an instance learns from the fleet what it knew before it was
// killed; and one that never shares learns nothing.
func TestWhoJoinsLearnsWhatIsCurrent(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := harness.RedisConfig(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")
	p := harness.StartProxy(t, harness.Options{NoDataDir: true, Config: config})
	p.AwaitRedis(true)
	harness.Eventually(t, "it opens", func() bool { return p.Get("/svc").BreakerState() == "open" })
	before := p.Health().Services["svc"]
	harness.Eventually(t, "that is told", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() == "open"
	})
	p.Signal(syscall.SIGKILL)
	p.Wait()
	p.Start()
	harness.Eventually(t, "it is open again", func() bool { return p.BreakerState() == "open" })
	sameOpening(t, before, p.Health().Services["svc"])

	loner := harness.StartProxy(t, harness.Options{Config: strings.Replace(config, `redis: {`, `redis: {share: {enabled: false}, `, 1)})
	loner.AwaitRedis(true)
	loner.Get("/svc")
	if s := loner.BreakerState(); s != "closed" {
		t.Errorf("one that does not share is %s", s)
	}
	loner.ReplaceConfig(config)
	harness.Eventually(t, "once it shares, it follows", func() bool { return loner.BreakerState() == "open" })
}

func TestKilledProberIsReplaced(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 3, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2, recovery_timeout: 2")})
	u.Kill()
	fleet[0].Get("/svc")
	fleet[0].Get("/svc")
	harness.AwaitState(t, fleet, "open")
	prober := -1
	harness.Eventually(t, "there is a prober", func() bool {
		for i, p := range fleet {
			if p.Health().Services["svc"].Probing {
				prober = i
			}
		}
		return prober >= 0
	})
	fleet[prober].Kill()
	u.Start()
	rest := append(fleet[:prober:prober], fleet[prober+1:]...)
	harness.Eventually(t, "the others recover", func() bool {
		rest[0].Get("/svc")
		rest[1].Get("/svc")
		return rest[0].BreakerState() == "closed" && rest[1].BreakerState() == "closed"
	})
}

func TestOperatorForcesTheWholeFleet(t *testing.T) {
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
	harness.Eventually(t, "released, they recover", func() bool {
		fleet[0].Get("/svc")
		fleet[1].Get("/svc")
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed"
	})
	server.Kill()
	if r := fleet[0].Force("svc", `{"state":"open","scope":"fleet"}`); r.Status != 503 || !strings.Contains(r.Body, "fleet") {
		t.Errorf("without Redis: %+v", r)
	}
	if r := fleet[0].Force("svc", `{"state":"open"}`); r.Status != 200 || fleet[0].BreakerState() != "open" {
		t.Errorf("one instance, without Redis: %+v", r)
	}
}

func TestRedisOverTLSWithClientCertificate(t *testing.T) {
	t.Parallel()
	server := redistest.StartTLS(t)
	files, err := json.Marshal(map[string]string{"ca_file": server.CAFile, "cert_file": server.CertFile, "key_file": server.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`", tls: `+string(files), "http://127.0.0.1:1", "fail_max: 2")})
	fleet[0].Get("/svc")
	fleet[0].Get("/svc")
	harness.AwaitState(t, fleet, "open")
	stranger := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2")})
	harness.Eventually(t, "it is told why", func() bool { return strings.Contains(stranger.Health().Redis.LastError, "certificate") })
	stranger.AwaitRedis(false)
}

// Where the proxies test recovery with requests of their own, one of them does.
func TestFleetProbesWithOneInstancesRequests(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	breaker := "fail_max: 2, recovery_timeout: 1, half_open_requests: 3, probe: {path: /, interval: 0.3}"
	fleet := harness.StartFleet(t, 3, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), breaker)})
	u.Kill()
	fleet[0].Get("/svc")
	fleet[0].Get("/svc")
	harness.AwaitState(t, fleet, "open")
	u.Start()
	harness.AwaitState(t, fleet, "closed") // without any client's request
	probers := 0
	for _, p := range fleet {
		if p.Metric(`cbproxy_probes_total{result="success",service="svc"}`) > 0 {
			probers++
		}
	}
	if probers != 1 {
		t.Errorf("%d instances probed", probers)
	}
}

// What a store of its own keeps does not depend on the fleet's numbers.
func TestOpeningOutlivesTheProcessWithoutItsRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")})
	p.AwaitRedis(true)
	p.OpenBreaker()
	server.Kill()
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.Start()
	p.Force("svc", `{"state":"closed"}`)
	p.Force("svc", `{"state":"auto"}`)
	before := p.OpenBreaker()
	p.Signal(syscall.SIGKILL)
	p.Wait()
	p.Start()
	sameOpening(t, before, p.Health().Services["svc"])
}

// A fleet's hold is the fleet's after a restart as well, and one that was laid on a breaker in
// that state already is not forgotten.
func TestFleetsHoldOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	held := func(p *harness.Proxy) bool {
		f := p.Health().Services["svc"].Forced
		return f != nil && f.Scope == "fleet"
	}
	fleet[0].Force("svc", `{"state":"closed","scope":"fleet","reason":"we know better"}`)
	harness.Eventually(t, "the other one is held", func() bool { return held(fleet[1]) })
	harness.Eventually(t, "and has said so", func() bool { return strings.Contains(fleet[1].Log.String(), "we know better") })
	fleet[1].Signal(syscall.SIGTERM)
	fleet[1].Wait()
	server.Kill()
	fleet[1].Start()
	if !held(fleet[1]) {
		t.Errorf("after a restart: %+v", fleet[1].Health().Services["svc"].Forced)
	}
	server.Restart()
	fleet[0].AwaitRedis(true)
	fleet[1].AwaitRedis(true)
	if r := fleet[0].Force("svc", `{"state":"auto","scope":"fleet"}`); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	harness.Eventually(t, "both are released", func() bool { return !held(fleet[0]) && !held(fleet[1]) })
}

// A fleet's hold that Redis has lost while nobody ran is the fleet's again, and can be released.
func TestFleetsHoldIsToldToARedisThatLostIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	p.AwaitRedis(true)
	p.Force("svc", `{"state":"open","scope":"fleet","reason":"moving"}`)
	if s := p.BreakerState(); s != "open" {
		t.Fatalf("it is %s", s)
	}
	p.Signal(syscall.SIGTERM)
	p.Wait()
	server.Restart() // which keeps nothing
	p.Start()
	p.AwaitRedis(true)
	harness.Eventually(t, "Redis knows of it", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "forced").Val() == "true"
	})
	joined := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2")})
	harness.Eventually(t, "who joins is held", func() bool { return joined.BreakerState() == "open" })
	if r := p.Force("svc", `{"state":"auto","scope":"fleet"}`); r.Status != 200 {
		t.Fatalf("%+v", r)
	}
	harness.Eventually(t, "both are released", func() bool {
		p.Get("/svc")
		joined.Get("/svc")
		return p.BreakerState() == "closed" && joined.BreakerState() == "closed"
	})
	// One instance may leave a hold of the fleet's.
	p.Force("svc", `{"state":"open","scope":"fleet"}`)
	harness.Eventually(t, "both are held", func() bool { return p.BreakerState() == "open" && joined.BreakerState() == "open" })
	p.Force("svc", `{"state":"auto"}`)
	if r := p.Get("/svc"); r.Status != 200 || r.BreakerState() != "half-open" {
		t.Errorf("having left the hold: %+v", r)
	}
	if s := joined.BreakerState(); s != "open" {
		t.Errorf("the other one is %s", s)
	}
}
