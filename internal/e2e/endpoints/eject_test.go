package endpoints

import (
	"fmt"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// get sends n calls to service svc and returns the number of each status.
func get(p *harness.Proxy, n int) map[int]int {
	p.T.Helper()
	statuses := map[int]int{}
	for range n {
		statuses[p.Get("/svc").Status]++
	}
	return statuses
}

func TestEndpointsTakeTurns(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 3)
	p := start(t, list, "balance: {policy: round_robin}")
	get(p, 30)
	if got := fmt.Sprint(callsOf(servers)); got != "[10 10 10]" {
		t.Errorf("calls of the endpoints: %s", got)
	}
}

// An endpoint that takes long has no more requests in flight than the others, and so gets fewer.
func TestBusyEndpointGetsFewerRequests(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 2)
	p := start(t, list, "")
	servers[0].pause()
	waiting := newTraffic(p, "GET")
	for servers[0].calls.Load() == 0 {
		waiting.send(1)
	}
	for servers[0].calls.Load()+servers[1].calls.Load() < int64(waiting.sent) || statusOf(p).Endpoints[1].InFlight > 0 {
		time.Sleep(rate)
	}
	busy := servers[0].calls.Load()
	get(p, 50) // none of them waits: the endpoint with requests in flight gets no other one
	if got := servers[0].calls.Load(); got != busy {
		t.Errorf("the busy endpoint got %d calls more", got-busy)
	}
	servers[0].resume()
	if failed := waiting.failedFrom(0); failed.n > 0 {
		t.Error(failed)
	}
	get(p, 50)
	if got := servers[0].calls.Load(); got < 5 {
		t.Errorf("the endpoint, not busy any more, got %d calls in all", got)
	}
}

// An endpoint that answers 500 is ejected and the others get its requests, while the breaker stays closed. After the ejection, one
// request tries it, and it is in again.
func TestFailingEndpointIsEjectedAndComesBack(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 3)
	p := start(t, list, "retry: {attempts: 1, statuses: [500], backoff: 1ms, budget: 1}, balance: {policy: round_robin, eject: {time: 2s}}")
	servers[1].status.Store(500)
	if got := get(p, 30); got[200] != 30 {
		t.Errorf("with a retry elsewhere, the statuses are %v", got)
	}
	if s := statusOf(p); s.states() != "in ejected in" || s.State != "closed" || s.FailCounter != 0 || s.Endpoints[1].FailCounter != 5 {
		t.Fatalf("%+v", s)
	}
	if got := servers[1].calls.Load(); got != 5 {
		t.Errorf("the failing endpoint got %d calls", got)
	}
	servers[1].status.Store(0)
	awaitStates(p, "in in in", func() { get(p, 1) })
	before := servers[1].calls.Load()
	get(p, 30)
	if got := servers[1].calls.Load() - before; got != 10 {
		t.Errorf("after its return the endpoint got %d of 30 calls", got)
	}
	if got := recorded(p); len(got) != 1 || got["success 200"] < 60 {
		t.Errorf("recorded: %v", got)
	}
}

// Not all endpoints are ejected, however often they fail, and one endpoint alone never is.
func TestLastEndpointStaysIn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		endpoints int
		ratio     string
		want      int
	}{{1, "1", 0}, {2, "1", 1}, {3, "0.5", 2}, {4, "0.25", 1}, {3, "0", 0}} {
		servers, list := startServers(t, tt.endpoints)
		p := start(t, list, "breaker: {mode: shadow}, balance: {eject: {fail_max: 2, time: 1h, max_ratio: "+tt.ratio+"}}")
		for _, s := range servers {
			s.status.Store(503)
		}
		if got := get(p, 40); got[503] != 40 {
			t.Errorf("%v", got)
		}
		if s := statusOf(p); s.ejections() != tt.want {
			t.Errorf("of %d endpoints %d are ejected with max_ratio %s, want %d", tt.endpoints, s.ejections(), tt.ratio, tt.want)
		}
	}
}
