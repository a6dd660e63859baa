package endpoints

import (
	"fmt"
	"maps"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// The breaker hears what clients saw: a retry that succeeds at another endpoint is one success, and if all endpoints fail, a request is
// one failure.
func TestBreakerHearsOfTheLastAttempt(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 2)
	p := start(t, list, "retry: {attempts: 3, statuses: [500], backoff: 1ms, budget: 1}, balance: {policy: round_robin, eject: {fail_max: 0}}, breaker: {algorithm: count, fail_max: 100}")
	servers[0].kill()
	if got := get(p, 20); got[200] != 20 {
		t.Fatalf("%v", got)
	}
	if s := statusOf(p); s.FailCounter != 0 || s.Endpoints[0].FailCounter < 10 {
		t.Errorf("%+v", s)
	}
	if got := recorded(p); !maps.Equal(got, map[string]int{"success 200": 20}) {
		t.Errorf("one endpoint works: recorded %v", got)
	}
	servers[1].status.Store(500)
	statuses := get(p, 20)
	if statuses[500]+statuses[502] != 20 {
		t.Errorf("%v", statuses)
	}
	if s := statusOf(p); s.FailCounter != 20 {
		t.Errorf("all endpoints fail: %+v", s)
	}
	got := recorded(p)
	if got["success 200"] != 20 || got["failure connect"]+got["failure status"] != 20 || len(got) != 3 && len(got) != 2 {
		t.Errorf("all endpoints fail: recorded %v", got)
	}
}

// When all endpoints fail, the breaker opens. It closes again when one of them has come back, even one that is ejected.
func TestBreakerRecoversWithOneEndpoint(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		servers, list := startServers(t, 3)
		p := start(t, list, "balance: {eject: {fail_max: 2, time: 500ms}}, breaker: {algorithm: count, fail_max: 20, recovery_timeout: 300ms}")
		for _, s := range servers {
			s.kill()
		}
		p.OpenBreaker()
		servers[i].start()
		harness.Eventually(t, fmt.Sprint("the breaker closes with endpoint ", i), func() bool {
			return p.Get("/svc").Status == 200 && statusOf(p).State == "closed"
		})
	}
}
