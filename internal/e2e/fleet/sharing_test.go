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

// TestFleetOpensTogether checks that all instances open when one has opened, that one of them probes, and that all close.
func TestFleetOpensTogether(t *testing.T) {
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
			t.Errorf("proxy %d sent a request to the dead upstream", i)
		}
	}
	checkRedisKeys(t, server, fleet[0].Health().Instance)

	u.Start()
	harness.Eventually(t, "all breakers are closed", func() bool {
		for _, p := range fleet {
			p.Get("/svc")
		}
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed" && fleet[2].BreakerState() == "closed"
	})
	probers := 0
	for _, p := range fleet {
		if p.History("svc")[0].Cause == "probes_succeeded" && p.Health().Services["svc"].Cause == "probes_succeeded" {
			probers++
		}
	}
	if probers != 1 {
		t.Errorf("%d instances probed, want one", probers)
	}
	remote := 0
	for _, c := range fleet[0].History("svc") {
		if c.Instance != fleet[0].Health().Instance {
			remote++
		}
	}
	if remote == 0 {
		t.Error("the history has no changes of other instances")
	}
}

// checkRedisKeys checks the state and the history in Redis while the breaker is open.
func checkRedisKeys(t *testing.T, server *redistest.Server, instance string) {
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

// TestQuorumIgnoresFindingOfOneInstance checks that, with a quorum of two, an instance that alone has no connection to the
// upstream does not open the breakers of the rest of the fleet.
func TestQuorumIgnoresFindingOfOneInstance(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	redis := `url: "` + server.URL() + `", share: {quorum: 2}`
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(redis, u.URL(), "fail_max: 2, recovery_timeout: 60")})
	disconnected := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(redis, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")})
	for range 3 {
		disconnected[0].Get("/svc")
	}
	if s := disconnected[0].BreakerState(); s != "open" {
		t.Fatalf("breaker state %s after failures", s)
	}
	harness.Eventually(t, "the finding of the disconnected instance is in Redis", func() bool {
		return server.Client().HExists(t.Context(), "circuit_breaker_state:svc", "finding:"+disconnected[0].Health().Instance).Val()
	})
	for _, p := range fleet {
		if r := p.Get("/svc"); r.BreakerState() != "closed" || r.Status != 200 {
			t.Errorf("another instance: %+v", r)
		}
	}
	if s := disconnected[0].BreakerState(); s != "open" {
		t.Errorf("the breaker state of the disconnected instance became %s", s)
	}
	for range 3 {
		disconnected[1].Get("/svc")
	}
	harness.AwaitState(t, fleet, "open")
}

// TestJoiningInstanceAdoptsFleetState checks that an instance without a local store gets its state before a kill from
// Redis, and that an instance with sharing disabled ignores the fleet until sharing is enabled.
func TestJoiningInstanceAdoptsFleetState(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := harness.RedisConfig(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2, recovery_timeout: 60")
	p := harness.StartProxy(t, harness.Options{NoDataDir: true, Config: config})
	p.AwaitRedis(true)
	harness.Eventually(t, "the breaker is open", func() bool { return p.Get("/svc").BreakerState() == "open" })
	before := p.Health().Services["svc"]
	harness.Eventually(t, "the state is in Redis", func() bool {
		return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() == "open"
	})
	p.Signal(syscall.SIGKILL)
	p.Wait()
	p.Start()
	harness.Eventually(t, "the breaker is open after the restart", func() bool { return p.BreakerState() == "open" })
	checkSameOpening(t, before, p.Health().Services["svc"])

	separate := harness.StartProxy(t, harness.Options{Config: strings.Replace(config, `redis: {`, `redis: {share: {enabled: false}, `, 1)})
	separate.AwaitRedis(true)
	separate.Get("/svc")
	if s := separate.BreakerState(); s != "closed" {
		t.Errorf("breaker state %s with sharing disabled", s)
	}
	separate.ReplaceConfig(config)
	harness.Eventually(t, "the breaker is open once sharing is enabled", func() bool { return separate.BreakerState() == "open" })
}

// TestKilledProberIsReplaced checks that another instance probes when the one with the probe lease is killed.
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
	harness.Eventually(t, "an instance is probing", func() bool {
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
	harness.Eventually(t, "the other breakers are closed", func() bool {
		rest[0].Get("/svc")
		rest[1].Get("/svc")
		return rest[0].BreakerState() == "closed" && rest[1].BreakerState() == "closed"
	})
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
	withoutCertificate := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 2")})
	harness.Eventually(t, "the error is reported", func() bool { return strings.Contains(withoutCertificate.Health().Redis.LastError, "certificate") })
	withoutCertificate.AwaitRedis(false)
}

// TestOneInstanceSendsProbes checks that one instance sends the configured probe requests for the whole fleet.
func TestOneInstanceSendsProbes(t *testing.T) {
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
	harness.AwaitState(t, fleet, "closed") // without a request of a client
	probers := 0
	for _, p := range fleet {
		if p.Metric(`cbproxy_probes_total{result="success",service="svc"}`) > 0 {
			probers++
		}
	}
	if probers != 1 {
		t.Errorf("%d instances probed, want one", probers)
	}
}

// TestOpenStateSurvivesRestartWithoutRedis checks that an instance restores its state from the local store while Redis is
// down, whatever the fleet's epoch.
func TestOpenStateSurvivesRestartWithoutRedis(t *testing.T) {
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
	checkSameOpening(t, before, p.Health().Services["svc"])
}
