package endpoints

import (
	"fmt"
	"net/http"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// reload changes the configuration and waits until it is in effect.
func reload(p *harness.Proxy, config string) {
	p.T.Helper()
	before := p.Health().Config.Hash
	p.ReplaceConfig(config)
	harness.Eventually(p.T, "the new configuration is in effect", func() bool { return p.Health().Config.Hash != before })
}

// While endpoints are added, removed and replaced under load, no request fails, and the connections to removed endpoints are closed.
func TestReloadsChangeEndpointsUnderLoad(t *testing.T) {
	t.Parallel()
	servers, _ := startServers(t, 4)
	lists := [][]int{{0}, {0, 1}, {0, 1, 2}, {2, 1}, {3}, {3, 2, 1, 0}, {1, 2, 3}, {3, 1}, {0, 2}, {2}}
	list := func(n int) (text string) {
		for _, i := range lists[n%len(lists)] {
			text += ", " + servers[i].url()
		}
		return "[" + text[2:] + "]"
	}
	p := start(t, list(0), "")
	tr := newTraffic(p, "POST")
	stop := tr.background()
	for n := 1; n <= 20; n++ {
		reload(p, config(list(n), fmt.Sprintf("timeout: %ds", 30+n)))
		gone := map[int]bool{0: true, 1: true, 2: true, 3: true}
		for _, i := range lists[n%len(lists)] {
			delete(gone, i)
		}
		for i := range gone {
			harness.Eventually(t, fmt.Sprint("connections to removed endpoint ", i, " are closed"), func() bool { return servers[i].open() == 0 })
		}
	}
	stop()
	if failed := tr.failedFrom(0); failed.n > 0 {
		t.Errorf("of %d calls have failed: %+v", tr.sent, failed)
	}
	for i, n := range callsOf(servers) {
		if n == 0 {
			t.Errorf("endpoint %d got no call", i)
		}
	}
	if got := recorded(p); got["success 200"] != tr.sent || len(got) != 1 {
		t.Errorf("of %d calls, recorded: %v", tr.sent, got)
	}
}

// A request in flight to an endpoint that is removed gets its response, and the connection is closed after that.
func TestRequestToARemovedEndpointEnds(t *testing.T) {
	t.Parallel()
	servers, _ := startServers(t, 2)
	for _, s := range servers {
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.URL.Path)
		})
	}
	servers[0].pause()
	p := start(t, "["+servers[0].url()+"]", "")
	tr := newTraffic(p, "POST")
	tr.send(5)
	harness.Eventually(t, "the requests have arrived", func() bool { return servers[0].calls.Load() == 5 })
	reload(p, config("["+servers[1].url()+"]", ""))
	if got := get(p, 20); got[200] != 20 || servers[1].calls.Load() != 20 {
		t.Errorf("after the change: %v, the new endpoint got %d calls", got, servers[1].calls.Load())
	}
	if servers[0].open() != 5 {
		t.Errorf("%d connections are open, with 5 requests in flight", servers[0].open())
	}
	servers[0].resume()
	if failed := tr.failedFrom(0); failed.n > 0 {
		t.Errorf("requests in flight have failed: %+v", failed)
	}
	harness.Eventually(t, "the connections are closed", func() bool { return servers[0].open() == 0 })
}

// An endpoint that is ejected stays so when others are added, and comes back after its trial.
func TestReloadKeepsEjections(t *testing.T) {
	t.Parallel()
	servers, _ := startServers(t, 3)
	list := func(n int) string {
		return fmt.Sprintf("[%s, %s, %s]", servers[0].url(), servers[1].url(), servers[2].url())[:1+n*(len(servers[0].url())+2)-2] + "]"
	}
	const eject = "balance: {eject: {fail_max: 2, time: 2s}}"
	p := start(t, list(2), eject)
	servers[1].status.Store(500)
	awaitStates(p, "in ejected", func() { get(p, 1) })
	reload(p, config(list(3), eject))
	if s := statusOf(p); s.states() != "in ejected in" || s.ejections() != 1 {
		t.Errorf("%+v", s)
	}
	servers[1].status.Store(0)
	awaitStates(p, "in in in", func() { get(p, 1) })
}
