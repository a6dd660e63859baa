package endpoints

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// 64 endpoints on 16 servers that die and come back all the time, while endpoints are added and removed. In the end, all are in and none has
// an attempt in flight.
func TestFlappingEndpointsAndReloads(t *testing.T) {
	t.Parallel()
	servers, _ := startServers(t, 16)
	list := func(keep func(i int) bool) string {
		var urls []string
		for i := range 64 {
			if keep(i) {
				urls = append(urls, fmt.Sprintf("%s/%d", servers[i%16].url(), i))
			}
		}
		return "[" + strings.Join(urls, ", ") + "]"
	}
	const keys = "retry: {attempts: 1, backoff: 1ms}, balance: {eject: {fail_max: 2, time: 100ms, max_ratio: 0.9}}, breaker: {recovery_timeout: 100ms}"
	p := start(t, list(func(int) bool { return true }), keys)
	tr := newTraffic(p, "GET")
	stop := tr.background()
	dead := map[int]bool{}
	for n := range 40 {
		for range 4 {
			i := rand.IntN(16)
			if dead[i] {
				servers[i].start()
			} else {
				servers[i].kill()
			}
			dead[i] = !dead[i]
		}
		p.ReplaceConfig(config(list(func(i int) bool { return rand.IntN(3) > 0 || i == n }), keys))
		time.Sleep(50 * time.Millisecond)
	}
	for i := range dead {
		if dead[i] {
			servers[i].start()
		}
	}
	reload(p, config(list(func(int) bool { return true }), keys))
	stop()
	harness.Eventually(t, "the breaker is closed, all endpoints are in and none has an attempt in flight", func() bool {
		get(p, 20)
		s := statusOf(p)
		busy := 0
		for _, e := range s.Endpoints {
			busy += e.InFlight
		}
		return s.State == "closed" && len(s.Endpoints) == 64 && !strings.Contains(s.states(), "ejected") && busy == 0
	})
	if failed := tr.failedFrom(0); failed.n == tr.sent {
		t.Errorf("all of %d calls have failed: %+v", tr.sent, failed)
	}
}
