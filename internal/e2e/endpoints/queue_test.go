package endpoints

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// Requests that are queued because one endpoint is dead are delivered to the other one.
func TestQueueDeliversToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	servers, list := startServers(t, 2)
	var mu sync.Mutex
	delivered := map[string]int{}
	servers[1].handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		delivered[string(body)]++
	})
	servers[0].kill()
	p := harness.StartProxy(t, harness.Options{Config: config(list, "balance: {eject: {fail_max: 3, time: 1h}}") + `fallbacks: {svc: {when: [connect], try: [queue],
  queue: {body: {queued: true}, backoff: 0.05, max_backoff: 0.2}}}
`})
	queued := 0
	for i := range 40 {
		switch r := p.Post(fmt.Sprint("m", i)); {
		case r.Header.Get("X-Fallback") == "queue":
			queued++
		case r.Status != 200:
			t.Fatalf("%+v", r)
		}
	}
	if queued == 0 {
		t.Error("no request was queued")
	}
	p.AwaitEmptyQueue()
	mu.Lock()
	defer mu.Unlock()
	for i := range 40 {
		if n := delivered[fmt.Sprint("m", i)]; n != 1 {
			t.Errorf("m%d was delivered %d times", i, n)
		}
	}
	if s := statusOf(p); s.states() != "ejected in" || s.State != "closed" {
		t.Errorf("%+v", s)
	}
}

// A request that is queued before an address of the upstream is known waits for one.
func TestQueuedRequestWaitsForDNS(t *testing.T) {
	t.Parallel()
	d := startDNS(t)
	servers, port := startAddresses(t, "127.0.0.1")
	d.silence()
	p := startWithDNS(t, d, config("dns+http://"+host+":"+port, "timeout: 200ms, breaker: {mode: off}")+`fallbacks: {svc: {when: [connect, timeout], try: [queue],
  queue: {body: {queued: true}, backoff: 0.05, max_backoff: 0.2}}}
`)
	if r := p.Post("m"); r.Header.Get("X-Fallback") != "queue" {
		t.Fatalf("%+v", r)
	}
	harness.Eventually(t, "a delivery has failed", func() bool { _, queued := p.Queue(); return len(queued) == 1 && queued[0].LastError != "" })
	d.set("127.0.0.1")
	p.AwaitEmptyQueue()
	if n := servers[0].calls.Load(); n != 1 {
		t.Errorf("%d calls, want the delivery", n)
	}
}
