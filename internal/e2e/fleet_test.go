package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/redistest"
)

func TestFleetLearnsFromTheFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := startUpstream(t)
	fleet := startFleet(t, 3, options{config: sharing(`url: "`+server.URL()+`", namespace: "e2e:", ttl: 600`, u.url(), "fail_max: 3, recovery_timeout: 3")})
	for _, p := range fleet {
		p.get("/svc")
	}
	u.kill()
	for range 3 {
		fleet[0].get("/svc")
	}
	awaitState(t, fleet, "open")
	end := fleet[0].health().Services["svc"].RetryAt
	for i, p := range fleet {
		s := p.health().Services["svc"]
		if s.RetryAt == nil || s.RetryAt.Sub(*end).Abs() > 100*time.Millisecond || i > 0 && s.Cause != "fleet" {
			t.Errorf("proxy %d: %+v", i, s)
		}
		if r := p.get("/svc"); r.state() != "open" || r.header.Get("Retry-After") == "" {
			t.Errorf("proxy %d: %+v", i, r)
		}
		if i > 0 && p.metric(`cbproxy_upstream_attempts_total{service="svc"}`) != 1 {
			t.Errorf("proxy %d asked the dead upstream", i)
		}
	}
	checkKeys(t, server, fleet[0].health().Instance)

	u.start()
	eventually(t, "all are closed again", func() bool {
		for _, p := range fleet {
			p.get("/svc")
		}
		return fleet[0].state() == "closed" && fleet[1].state() == "closed" && fleet[2].state() == "closed"
	})
	own := 0
	for _, p := range fleet {
		if p.history("svc")[0].Cause == "probes_succeeded" && p.health().Services["svc"].Cause == "probes_succeeded" {
			own++
		}
	}
	if own != 1 {
		t.Errorf("%d instances probed, want one", own)
	}
	others := 0
	for _, c := range fleet[0].history("svc") {
		if c.Instance != fleet[0].health().Instance {
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
	u := startUpstream(t)
	redis := `url: "` + server.URL() + `", share: {quorum: 2}`
	fleet := startFleet(t, 2, options{config: sharing(redis, u.url(), "fail_max: 2, recovery_timeout: 60")})
	broken := startFleet(t, 2, options{config: sharing(redis, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")})
	for range 3 {
		broken[0].get("/svc")
	}
	if s := broken[0].state(); s != "open" {
		t.Fatalf("it is %s by its own verdict", s)
	}
	eventually(t, "its finding is told", func() bool {
		return server.Client().HExists(t.Context(), "circuit_breaker_state:svc", "finding:"+broken[0].health().Instance).Val()
	})
	for _, p := range fleet {
		if r := p.get("/svc"); r.state() != "closed" || r.status != 200 {
			t.Errorf("another one: %+v", r)
		}
	}
	if s := broken[0].state(); s != "open" {
		t.Errorf("its own verdict became %s", s)
	}
	for range 3 {
		broken[1].get("/svc")
	}
	awaitState(t, fleet, "open")
}

// Without a store of its own, an instance learns from the fleet what it knew before it was
// killed; and one that never shares learns nothing.
func TestWhoJoinsLearnsWhatIsCurrent(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := sharing(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")
	p := startProxy(t, options{noDataDir: true, config: config})
	p.awaitRedis(true)
	eventually(t, "it opens", func() bool { return p.get("/svc").state() == "open" })
	before := p.health().Services["svc"]
	eventually(t, "that is told", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() == "open"
	})
	p.signal(syscall.SIGKILL)
	p.wait()
	p.start()
	eventually(t, "it is open again", func() bool { return p.state() == "open" })
	sameOpening(t, before, p.health().Services["svc"])

	loner := startProxy(t, options{config: strings.Replace(config, `redis: {`, `redis: {share: {enabled: false}, `, 1)})
	loner.awaitRedis(true)
	loner.get("/svc")
	if s := loner.state(); s != "closed" {
		t.Errorf("one that does not share is %s", s)
	}
	loner.replace(config)
	eventually(t, "once it shares, it follows", func() bool { return loner.state() == "open" })
}

func TestKilledProberIsReplaced(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := startUpstream(t)
	fleet := startFleet(t, 3, options{config: sharing(`url: "`+server.URL()+`"`, u.url(), "fail_max: 2, recovery_timeout: 2")})
	u.kill()
	fleet[0].get("/svc")
	fleet[0].get("/svc")
	awaitState(t, fleet, "open")
	prober := -1
	eventually(t, "there is a prober", func() bool {
		for i, p := range fleet {
			if p.health().Services["svc"].Probing {
				prober = i
			}
		}
		return prober >= 0
	})
	fleet[prober].kill()
	u.start()
	rest := append(fleet[:prober:prober], fleet[prober+1:]...)
	eventually(t, "the others recover", func() bool {
		rest[0].get("/svc")
		rest[1].get("/svc")
		return rest[0].state() == "closed" && rest[1].state() == "closed"
	})
}

func TestOperatorForcesTheWholeFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := startUpstream(t)
	fleet := startFleet(t, 2, options{config: sharing(`url: "`+server.URL()+`"`, u.url(), "fail_max: 2")})
	if r := fleet[0].force("svc", `{"state":"open","duration":"10m","reason":"moving","scope":"fleet"}`); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	awaitState(t, fleet, "open")
	for _, p := range fleet {
		if f := p.health().Services["svc"].Forced; f == nil || f.Scope != "fleet" || f.Reason != "moving" || f.Until == nil {
			t.Errorf("forced: %+v", f)
		}
	}
	if r := fleet[1].force("svc", `{"state":"auto","scope":"fleet"}`); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	eventually(t, "released, they recover", func() bool {
		fleet[0].get("/svc")
		fleet[1].get("/svc")
		return fleet[0].state() == "closed" && fleet[1].state() == "closed"
	})
	server.Kill()
	if r := fleet[0].force("svc", `{"state":"open","scope":"fleet"}`); r.status != 503 || !strings.Contains(r.body, "fleet") {
		t.Errorf("without Redis: %+v", r)
	}
	if r := fleet[0].force("svc", `{"state":"open"}`); r.status != 200 || fleet[0].state() != "open" {
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
	fleet := startFleet(t, 2, options{config: sharing(`url: "`+server.URL()+`", tls: `+string(files), "http://127.0.0.1:1", "fail_max: 2")})
	fleet[0].get("/svc")
	fleet[0].get("/svc")
	awaitState(t, fleet, "open")
	stranger := startProxy(t, options{config: sharing(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2")})
	eventually(t, "it is told why", func() bool { return strings.Contains(stranger.health().Redis.LastError, "certificate") })
	stranger.awaitRedis(false)
}

// Where the proxies test recovery with requests of their own, one of them does.
func TestFleetProbesWithOneInstancesRequests(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := startUpstream(t)
	breaker := "fail_max: 2, recovery_timeout: 1, half_open_requests: 3, probe: {path: /, interval: 0.3}"
	fleet := startFleet(t, 3, options{config: sharing(`url: "`+server.URL()+`"`, u.url(), breaker)})
	u.kill()
	fleet[0].get("/svc")
	fleet[0].get("/svc")
	awaitState(t, fleet, "open")
	u.start()
	awaitState(t, fleet, "closed") // without any client's request
	probers := 0
	for _, p := range fleet {
		if p.metric(`cbproxy_probes_total{result="success",service="svc"}`) > 0 {
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
	p := startProxy(t, options{config: sharing(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")})
	p.awaitRedis(true)
	p.open()
	server.Kill()
	p.signal(syscall.SIGTERM)
	p.wait()
	p.start()
	p.force("svc", `{"state":"closed"}`)
	p.force("svc", `{"state":"auto"}`)
	before := p.open()
	p.signal(syscall.SIGKILL)
	p.wait()
	p.start()
	sameOpening(t, before, p.health().Services["svc"])
}

// A fleet's hold is the fleet's after a restart as well, and one that was laid on a breaker in
// that state already is not forgotten.
func TestFleetsHoldOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := startUpstream(t)
	fleet := startFleet(t, 2, options{config: sharing(`url: "`+server.URL()+`"`, u.url(), "fail_max: 2")})
	held := func(p *proxyProcess) bool {
		f := p.health().Services["svc"].Forced
		return f != nil && f.Scope == "fleet"
	}
	fleet[0].force("svc", `{"state":"closed","scope":"fleet","reason":"we know better"}`)
	eventually(t, "the other one is held", func() bool { return held(fleet[1]) })
	eventually(t, "and has said so", func() bool { return strings.Contains(fleet[1].log.String(), "we know better") })
	fleet[1].signal(syscall.SIGTERM)
	fleet[1].wait()
	server.Kill()
	fleet[1].start()
	if !held(fleet[1]) {
		t.Errorf("after a restart: %+v", fleet[1].health().Services["svc"].Forced)
	}
	server.Restart()
	fleet[0].awaitRedis(true)
	fleet[1].awaitRedis(true)
	if r := fleet[0].force("svc", `{"state":"auto","scope":"fleet"}`); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	eventually(t, "both are released", func() bool { return !held(fleet[0]) && !held(fleet[1]) })
}

// A fleet's hold that Redis has lost while nobody ran is the fleet's again, and can be released.
func TestFleetsHoldIsToldToARedisThatLostIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := startUpstream(t)
	p := startProxy(t, options{config: sharing(`url: "`+server.URL()+`"`, u.url(), "fail_max: 2")})
	p.awaitRedis(true)
	p.force("svc", `{"state":"open","scope":"fleet","reason":"moving"}`)
	if s := p.state(); s != "open" {
		t.Fatalf("it is %s", s)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	server.Restart() // which keeps nothing
	p.start()
	p.awaitRedis(true)
	eventually(t, "Redis knows of it", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "forced").Val() == "true"
	})
	joined := startProxy(t, options{config: sharing(`url: "`+server.URL()+`"`, u.url(), "fail_max: 2")})
	eventually(t, "who joins is held", func() bool { return joined.state() == "open" })
	if r := p.force("svc", `{"state":"auto","scope":"fleet"}`); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	eventually(t, "both are released", func() bool {
		p.get("/svc")
		joined.get("/svc")
		return p.state() == "closed" && joined.state() == "closed"
	})
	// One instance may leave a hold of the fleet's.
	p.force("svc", `{"state":"open","scope":"fleet"}`)
	eventually(t, "both are held", func() bool { return p.state() == "open" && joined.state() == "open" })
	p.force("svc", `{"state":"auto"}`)
	if r := p.get("/svc"); r.status != 200 || r.state() != "half-open" {
		t.Errorf("having left the hold: %+v", r)
	}
	if s := joined.state(); s != "open" {
		t.Errorf("the other one is %s", s)
	}
}
