package fleet

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// redisPassword must not appear in any output.
const redisPassword = "pa55-w0rd"

// redisFault is one kind of Redis fault.
type redisFault struct {
	begin  func(t *testing.T, f *faultyRedis)
	end    func(t *testing.T, f *faultyRedis)
	error  string // text expected in the last error
	usable bool   // the proxy still reports that Redis is up
}

// faultyRedis is a Redis server behind a relay. Faults are injected into either.
type faultyRedis struct {
	*redistest.Server
	relay *redistest.Relay
}

// withPassword is a client option that sets the password.
func withPassword(password string) func(*redis.Options) {
	return func(o *redis.Options) { o.Password = password }
}

// do sends a command to the server.
func (f *faultyRedis) do(t *testing.T, args ...any) {
	t.Helper()
	if err := f.Client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

var redisFaults = map[string]redisFault{
	"killed": {
		begin: func(_ *testing.T, f *faultyRedis) { f.Kill() },
		end:   func(_ *testing.T, f *faultyRedis) { f.Restart() },
	},
	"paused": {
		begin: func(_ *testing.T, f *faultyRedis) { f.Pause() },
		end:   func(_ *testing.T, f *faultyRedis) { f.Resume() },
		error: "no answer in time",
	},
	"black hole": {
		begin: func(_ *testing.T, f *faultyRedis) { f.relay.Blackhole(true) },
		end:   func(_ *testing.T, f *faultyRedis) { f.relay.Blackhole(false) },
		error: "no answer in time",
	},
	"slow": {
		begin:  func(_ *testing.T, f *faultyRedis) { f.relay.Delay(200 * time.Millisecond) },
		end:    func(_ *testing.T, f *faultyRedis) { f.relay.Delay(0) },
		usable: true,
	},
	"read-only replica": {
		begin: func(t *testing.T, f *faultyRedis) { f.do(t, "REPLICAOF", "127.0.0.1", "1") },
		end:   func(t *testing.T, f *faultyRedis) { f.do(t, "REPLICAOF", "NO", "ONE") },
		error: "READONLY",
	},
	"out of memory": {
		begin: func(t *testing.T, f *faultyRedis) { f.do(t, "CONFIG", "SET", "maxmemory", "1") },
		end:   func(t *testing.T, f *faultyRedis) { f.do(t, "CONFIG", "SET", "maxmemory", "0") },
		error: "OOM",
	},
	"wrong type": {
		begin: func(t *testing.T, f *faultyRedis) {
			f.do(t, "DEL", "circuit_breaker_state:svc")
			f.do(t, "SET", "circuit_breaker_state:svc", "{}")
		},
		end:   func(t *testing.T, f *faultyRedis) { f.do(t, "DEL", "circuit_breaker_state:svc") },
		error: "WRONGTYPE",
	},
	"wrong type of the lease": {
		begin: func(t *testing.T, f *faultyRedis) {
			f.do(t, "DEL", "circuit_breaker_probe:svc")
			f.do(t, "LPUSH", "circuit_breaker_probe:svc", "x")
		},
		end:    func(t *testing.T, f *faultyRedis) { f.do(t, "DEL", "circuit_breaker_probe:svc") },
		usable: true, // until a command is sent
	},
	"nonsense": {
		begin: func(t *testing.T, f *faultyRedis) {
			f.do(t, "DEL", "circuit_breaker_state:svc")
			f.do(t, "HSET", "circuit_breaker_state:svc", "state", "{}", "epoch", "9007199254740000")
		},
		end:   func(t *testing.T, f *faultyRedis) { f.do(t, "DEL", "circuit_breaker_state:svc") },
		error: "parse field",
	},
	"another password": {
		begin: func(t *testing.T, f *faultyRedis) {
			f.do(t, "CONFIG", "SET", "requirepass", "changed")
			f.relay.Cut()
			f.relay.Mend()
		},
		end: func(t *testing.T, f *faultyRedis) {
			if err := f.Client(withPassword("changed")).ConfigSet(t.Context(), "requirepass", redisPassword).Err(); err != nil {
				t.Fatal(err)
			}
		},
		error: "WRONGPASS",
	},
}

// TestRequestsDoNotWaitForRedis checks for each fault that no request waits for Redis, that the breaker works without it,
// that Redis gets the current state afterwards, and that the fault is logged once.
func TestRequestsDoNotWaitForRedis(t *testing.T) {
	t.Parallel()
	for name, fault := range redisFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--requirepass", redisPassword)
			f := &faultyRedis{server, redistest.StartRelay(t, server.Address())}
			u := harness.StartUpstream(t)
			url := "redis://:" + redisPassword + "@" + f.relay.Address()
			config := harness.RedisConfig("ttl: 60", u.URL(), "fail_max: 2, recovery_timeout: 1")
			p := harness.StartProxy(t, harness.Options{Config: config, Env: []string{"REDIS_URL=" + url}})
			p.AwaitRedis(true)

			fault.begin(t, f)
			u.Kill()
			getQuickly(p)
			if s := getQuickly(p); s != "open" {
				t.Errorf("breaker state %s after two failures", s)
			}
			if !fault.usable {
				harness.Eventually(t, "the error is reported", func() bool { getQuickly(p); return !p.Health().Redis.Up })
				p.AwaitRedis(false)
				if h := p.Health(); !strings.Contains(h.Redis.LastError, fault.error) {
					t.Errorf("last error %q, want %s", h.Redis.LastError, fault.error)
				}
			}
			u.Start()
			harness.Eventually(t, "the breaker closes without Redis", func() bool { return getQuickly(p) == "closed" })
			u.Kill()
			getQuickly(p)
			getQuickly(p)
			getQuickly(p)
			if s := p.BreakerState(); s != "open" && s != "half-open" {
				t.Errorf("breaker state %s with a dead upstream", s)
			}

			fault.end(t, f)
			p.AwaitRedis(true)
			harness.Eventually(t, "Redis has the current state", func() bool {
				getQuickly(p)
				return server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() != "closed"
			})
			u.Start()
			harness.Eventually(t, "the breaker is closed, also in Redis", func() bool {
				getQuickly(p)
				return p.BreakerState() == "closed" && server.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() == "closed"
			})
			if n := strings.Count(p.Log.String(), "Redis unavailable"); n > 2 {
				t.Errorf("the log reports %d times that Redis is unavailable", n)
			}
			checkSecretNotExposed(p, redisPassword)
		})
	}
}

// getQuickly sends a request to svc, and fails the test if it or the readiness check waits for Redis. It returns the
// breaker state in the health response.
func getQuickly(p *harness.Proxy) string {
	p.T.Helper()
	client := http.Client{Timeout: 900 * time.Millisecond} // shorter than each Redis timeout
	res, err := client.Get(p.URL + "/svc")
	if err != nil {
		p.T.Fatalf("send a request: %v", err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	ready, err := client.Get(p.AdminURL + "/readyz")
	if err != nil || ready.StatusCode != http.StatusOK {
		p.T.Fatalf("not ready: %v, %v", ready, err)
	}
	_ = ready.Body.Close()
	return p.BreakerState()
}

// checkSecretNotExposed fails the test if a secret appears in the log, the metrics or the admin API.
func checkSecretNotExposed(p *harness.Proxy, secret string) {
	p.T.Helper()
	outputs := map[string]string{"log": p.Log.String(), "metrics": p.Metrics()}
	for _, path := range []string{"circuit-breakers/health", "circuit-breakers/svc", "circuit-breakers/svc/history", "config"} {
		res, err := http.Get(p.AdminURL + "/api/v1/" + path)
		outputs[path] = harness.ReadResponse(p.T, res, err).Body
	}
	for output, text := range outputs {
		if strings.Contains(text, secret) {
			p.T.Errorf("the password appears in the output %s", output)
		}
	}
}

// TestRedisIsUsedOnceAvailable checks that a proxy starts while Redis is down and connects to it later.
func TestRedisIsUsedOnceAvailable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	p := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "redis://user:`+redisPassword+`@`+server.Address()+`"`, "http://127.0.0.1:1", "fail_max: 2")})
	getQuickly(p)
	if s := getQuickly(p); s != "open" {
		t.Errorf("breaker state %s after two failures", s)
	}
	harness.Eventually(t, "the error is reported", func() bool { return strings.Contains(p.Health().Redis.LastError, "refused") })
	checkSecretNotExposed(p, redisPassword)
	server.Restart()
	// The running server rejects the unknown user, which is a different error.
	harness.Eventually(t, "the error is reported", func() bool { return strings.Contains(p.Health().Redis.LastError, "WRONGPASS") })
	checkSecretNotExposed(p, redisPassword)
}

func TestInvalidRedisURLDoesNotLeakPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://:" + redisPassword + "@h:port", "http://u:" + redisPassword + "@h", "redis://:" + redisPassword + "@h/x",
		"redis://h?password=" + redisPassword, "redis://:" + redisPassword + "@h?master_name=", "redis://:" + redisPassword + "@h\x01",
	} {
		file := t.TempDir() + "/config.yaml"
		p := harness.Proxy{T: t, ConfigFile: file}
		p.WriteConfig(fmt.Sprintf("redis: {url: %q}\n%s", url, harness.DeadUpstreamConfig))
		status, out, errors := harness.RunCommand(t, "check", "--config", file)
		if status != 2 || !strings.Contains(out, "redis.url: must") || strings.Contains(out+errors, redisPassword) {
			t.Errorf("%q: exit status %d: %s%s", url, status, out, errors)
		}
	}
}

// TestPasswordInRedisErrorIsRedacted uses a server that parses the password as the argument of a command
// and quotes it in its error.
func TestPasswordInRedisErrorIsRedacted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	p := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "redis://:`+redisPassword+`@`+server.Address()+`"`, "http://127.0.0.1:1", "fail_max: 2")})
	harness.Eventually(t, "the error is reported", func() bool { return strings.Contains(p.Health().Redis.LastError, "unknown command") })
	checkSecretNotExposed(p, redisPassword)
}

// TestInvalidKeyOfOneServiceDoesNotAffectOthers checks that invalid Redis data of one service does not
// affect another service.
func TestInvalidKeyOfOneServiceDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client()
	if err := client.Set(t.Context(), "circuit_breaker_history:svc", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProxy(t, harness.Options{Config: harness.RedisConfig(`url: "`+server.URL()+`"`, "http://127.0.0.1:1", "fail_max: 1") +
		`  other: {prefix: /other, upstream: "http://127.0.0.1:1", breaker: {fail_max: 1}}` + "\n"})
	p.AwaitRedis(true)
	p.Get("/svc")
	p.AwaitRedis(false)
	p.Get("/other")
	harness.Eventually(t, "the history of the other service is in Redis", func() bool {
		return client.XLen(t.Context(), "circuit_breaker_history:other").Val() == 1
	})
}
