package routes_test

import (
	"errors"
	"testing"
	"time"

	"cbproxy/routes"
)

const twoServices = `
routes:
  rag_service: {upstream: http://rag, timeout: 4s, breaker: {fail_max: 9}}
  my-search: {prefix: /search, upstream: http://search}
`

func TestEnvironmentOverridesFile(t *testing.T) {
	c, err := loader("CIRCUIT_BREAKER_RAG_FAIL_MAX=7", "CIRCUIT_BREAKER_RAG_RECOVERY_TIMEOUT=1m30s", "CIRCUIT_BREAKER_RAG_TIMEOUT=2.5",
		"CIRCUIT_BREAKER_RAG_HALF_OPEN_REQUESTS=3", "CIRCUIT_BREAKER_RAG_FALLBACK_ENABLED=0", "CIRCUIT_BREAKER_RAG_PRIORITY=3",
		"CIRCUIT_BREAKER_MY_SEARCH_FALLBACK_ENABLED=false", "CIRCUIT_BREAKER_MY_SEARCH_FAIL_MAX=2", "CIRCUIT_BREAKER_MY_SEARCH_FAIL_MAX=3",
		"CBPROXY_ADMIN_TOKEN= secret\n", "REDIS_URL=", "CIRCUIT_BREAKERS=1", "=odd", "odd").Parse([]byte(twoServices))
	if err != nil {
		t.Fatal(err)
	}
	rag, search := c.Routes["rag_service"], c.Routes["my-search"]
	if rag.Breaker.FailMax != 7 || rag.Breaker.RecoveryTimeout != 90*time.Second || rag.Timeout != 2500*time.Millisecond ||
		rag.Breaker.HalfOpenRequests != 3 || rag.FallbackEnabled || rag.Priority != 3 {
		t.Errorf("got %+v", rag)
	}
	if search.FallbackEnabled || search.Breaker.FailMax != 2 {
		t.Errorf("got %+v, want the first of two values", search)
	}
	if c.Admin.Token != "secret" {
		t.Errorf("got token %q, want it without spaces around", c.Admin.Token)
	}
}

func TestEnvironmentFaults(t *testing.T) {
	for _, test := range []struct{ name, config, variable, want string }{
		{"not a number", twoServices, "CIRCUIT_BREAKER_RAG_FAIL_MAX=x", `must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes), got "x"`},
		{"empty", twoServices, "CIRCUIT_BREAKER_RAG_TIMEOUT=", `must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5, got ""`},
		{"out of bounds", twoServices, "CIRCUIT_BREAKER_RAG_PRIORITY=4", `must be from 1 to 3, got "4"`},
		{"negative", twoServices, "CIRCUIT_BREAKER_RAG_RECOVERY_TIMEOUT=-1", `must be positive, got "-1"`},
		{"not a boolean", twoServices, "CIRCUIT_BREAKER_RAG_FALLBACK_ENABLED=yes", `must be true or false, got "yes"`},
		{"unknown key", twoServices, "CIRCUIT_BREAKER_RAG_UPSTREAM=x", "must end in one of FAIL_MAX, FALLBACK_ENABLED, HALF_OPEN_REQUESTS, PRIORITY, RECOVERY_TIMEOUT, TIMEOUT to set a key of rag_service"},
		{"unknown service", twoServices, "CIRCUIT_BREAKER_VMS_TIMEOUT=1", "must name a configured service: CIRCUIT_BREAKER_MY_SEARCH_… for my-search, CIRCUIT_BREAKER_RAG_… for rag_service"},
		{"full service name", twoServices, "CIRCUIT_BREAKER_RAG_SERVICE_TIMEOUT=1", "must end in one of FAIL_MAX, FALLBACK_ENABLED, HALF_OPEN_REQUESTS, PRIORITY, RECOVERY_TIMEOUT, TIMEOUT to set a key of rag_service"},
		{"two spellings of a name", `routes: {a-b: {prefix: /1, upstream: http://a}, a_b_service: {prefix: /2, upstream: http://b}}`,
			"CIRCUIT_BREAKER_A_B_TIMEOUT=1", "is ambiguous, it could set a-b.TIMEOUT or a_b_service.TIMEOUT"},
		{"two ways to part a name", `routes: {rag: {prefix: /1, upstream: http://a}, rag_recovery: {prefix: /2, upstream: http://b}}`,
			"CIRCUIT_BREAKER_RAG_RECOVERY_TIMEOUT=1", "is ambiguous, it could set rag.RECOVERY_TIMEOUT or rag_recovery.TIMEOUT"},
		{"redis", twoServices, "REDIS_URL=http://user:secret@redis", `must be a redis or rediss URL, got "http://redacted@redis"`},
		{"redis with a line break", twoServices, "REDIS_URL=redis://user:secret@redis\n", `must have no control character, got "redis://redacted"`},
		{"redis ttl", twoServices, "REDIS_CIRCUIT_BREAKER_TTL=0.5", `must be 1s or more, got "0.5"`},
		{"redis ttl in no unit", twoServices, "REDIS_CIRCUIT_BREAKER_TTL=1d", `must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5, got "1d"`},
		{"blank token", twoServices, "CBPROXY_ADMIN_TOKEN=  ", "must be a token, got only spaces"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := loader(test.variable).Parse([]byte(test.config))
			var faults routes.Faults
			if !errors.As(err, &faults) || len(faults) != 1 {
				t.Fatalf("got %v, want one fault", err)
			}
			name := test.variable[:len(faults[0].Path)]
			if want := "environment: " + name + ": " + test.want; faults[0].String() != want {
				t.Errorf("got  %s\nwant %s", faults[0], want)
			}
		})
	}
}

// kubernetesVariables returns the variables that Kubernetes sets in a pod for a Service, with a prefix.
func kubernetesVariables(name string) []string {
	return []string{
		name + "_SERVICE_HOST=10.96.0.7", name + "_SERVICE_PORT=8080", name + "_SERVICE_PORT_HTTP=8080", name + "_SERVICE_PORT_GRPC_WEB=9090",
		name + "_PORT=tcp://10.96.0.7:8080", name + "_PORT_8080_TCP=tcp://10.96.0.7:8080", name + "_PORT_8080_TCP_PROTO=tcp",
		name + "_PORT_8080_TCP_PORT=8080", name + "_PORT_8080_TCP_ADDR=10.96.0.7", name + "_PORT_53_UDP=udp://[fd00::7]:53",
		name + "_PORT_53_UDP_ADDR=fd00::7", name + "_PORT_9_SCTP_PROTO=sctp",
	}
}

func TestServiceLinksAreIgnored(t *testing.T) {
	environ := []string{
		"CIRCUIT_BREAKER_RAG_FAIL_MAX=7",
		"CIRCUIT_BREAKER_NAME=/web/circuit-breaker", "CIRCUIT_BREAKER_ENV_TIMEOUT=x", "CIRCUIT_BREAKER_ENV_GO_ENV_1=x",
		"CIRCUIT_BREAKER_PORT_80_TCP_START=tcp://172.17.0.2:80", "CIRCUIT_BREAKER_PORT_80_TCP_END=tcp://172.17.0.2:82",
		"CIRCUIT_BREAKER_PORT_80_TCP_PORT_START=80", "CIRCUIT_BREAKER_PORT_80_TCP_PORT_END=82",
	}
	for _, name := range []string{"CIRCUIT_BREAKER", "CIRCUIT_BREAKER_RAG", "CIRCUIT_BREAKER_RAG_SERVICE", "CIRCUIT_BREAKER_RAG_TIMEOUT",
		"CIRCUIT_BREAKER_DASHBOARD_2", "CIRCUIT_BREAKER_PORT", "CIRCUIT_BREAKER_SERVICE", "REDIS", "REDIS_URL", "CBPROXY", "CBPROXY_ADMIN", "CBPROXY_ADMIN_TOKEN"} {
		environ = append(environ, kubernetesVariables(name)...)
	}
	c, err := loader(environ...).Parse([]byte(twoServices))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Routes["rag_service"].Breaker.FailMax; got != 7 {
		t.Errorf("got fail_max %d, want the 7 of the environment", got)
	}
	if c.Redis.URL != "" || c.Admin.Token != "" {
		t.Errorf("got redis.url %q and the token %q, want none", c.Redis.URL, c.Admin.Token)
	}
}

func TestMisspelledVariablesAreFaults(t *testing.T) {
	for _, variable := range []string{
		"CIRCUIT_BREAKER_RAG_FAILMAX=5", "CIRCUIT_BREAKER_RAG_SERVICE_FAIL_MAX=5", "CIRCUIT_BREAKER_RAG_PORT_FAIL_MAX=5",
		"CIRCUIT_BREAKER_PORT_RAG_TIMEOUT=5", "CIRCUIT_BREAKER_PORT_TIMEOUT=5", "CIRCUIT_BREAKER_RAG_SUPPORT=5", "CIRCUIT_BREAKER_RAG_SERVICE=5",
		"CIRCUIT_BREAKER_RAG_HOST=10.96.0.7", "CIRCUIT_BREAKER_RAG_PORT_8080_HTTP=5", "CIRCUIT_BREAKER_RAG_PORT_8080=5", "CIRCUIT_BREAKER_SERVICE_PORTS=5",
		"CIRCUIT_BREAKER_NAME=rag", "CIRCUIT_BREAKER_RAG_ENV_TIMEOUT=5", "CIRCUIT_BREAKER_=5",
	} {
		_, err := loader(variable).Parse([]byte(twoServices))
		var faults routes.Faults
		if !errors.As(err, &faults) || len(faults) != 1 {
			t.Errorf("%s: got %v, want one fault", variable, err)
		}
	}
}
