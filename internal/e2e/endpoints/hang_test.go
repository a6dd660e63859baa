package endpoints

import "testing"

// Endpoints that accept requests and never answer get few of them, as those stay in flight, and are ejected when attempts have a timeout.
func TestTwoOfThreeEndpointsHang(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 3)
	p := start(t, list, "retry: {attempts: 1}, attempt_timeout: 500ms, balance: {eject: {time: 1s}}")
	tr := newTraffic(p, "GET")
	tr.send(200)
	servers[0].pause()
	servers[2].pause()
	awaitStates(p, "ejected in ejected", func() { tr.send(20) })
	tr.calls.Wait()
	from := tr.sent
	tr.send(1000)
	if failed := tr.failedFrom(from); failed.n > 1 {
		t.Errorf("after the ejections, of 1000 calls have failed: %+v", failed)
	}
	if s := statusOf(p); s.State != "closed" || s.ejections() < 4 {
		t.Errorf("%+v", s)
	}
	servers[0].resume()
	servers[2].resume()
	awaitStates(p, "in in in", func() { tr.send(20) })
}

// A hedge goes to the other endpoint: a request that hangs at one is answered by the other, however many requests hang.
func TestHedgesGoToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 2)
	p := start(t, list, "timeout: 10s, retry: {budget: 1}, hedge: {after: 20ms, max_ratio: 1}, balance: {policy: round_robin, eject: {fail_max: 0}}")
	servers[0].pause()
	if got := get(p, 50); got[200] != 50 {
		t.Errorf("%v", got)
	}
	if calls := callsOf(servers); calls[1] != 50 || calls[0] == 0 {
		t.Errorf("calls of the endpoints: %v", calls)
	}
	if got := recorded(p); got["success 200"] != 50 || len(got) != 1 {
		t.Errorf("recorded: %v", got)
	}
	if s := statusOf(p); s.Endpoints[0].InFlight+s.Endpoints[1].InFlight != 0 {
		t.Errorf("attempts are still in flight: %+v", s)
	}
}
