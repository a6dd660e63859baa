package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/redistest"
)

// A forced state that was confirmed by a 200 outlives a kill right after it.
func TestConfirmedForcedStateOutlivesAKill(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{"instance", "fleet"} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			config, lose := deadUpstream, func() {}
			if scope == "fleet" {
				server := redistest.Start(t)
				config += fmt.Sprintf("redis: {url: %q}\n", server.URL())
				lose = func() { // so that only the disk has the state
					if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := startProxy(t, options{config: config})
			killAndStart := func() {
				p.kill()
				lose()
				p.start()
			}
			for i := range 8 {
				state, reason := []string{"open", "closed"}[i%2], fmt.Sprint("reason ", i)
				body := fmt.Sprintf(`{"state":%q,"reason":%q,"scope":%q}`, state, reason, scope)
				r := response{}
				eventually(t, "it is confirmed", func() bool { r = p.force("svc", body); return r.status == http.StatusOK }) // the fleet may not have joined yet
				killAndStart()
				if s := p.health().Services["svc"]; s.State != state || s.Forced == nil || s.Forced.Reason != reason {
					t.Errorf("after %s: %+v, %+v", body, s, s.Forced)
				}
			}
			eventually(t, "it is released", func() bool {
				return p.force("svc", fmt.Sprintf(`{"state":"auto","scope":%q}`, scope)).status == http.StatusOK
			})
			killAndStart()
			if s := p.health().Services["svc"]; s.Forced != nil {
				t.Errorf("after the release: %+v", s.Forced)
			}
		})
	}
}

// Without a folder a state is confirmed once it is in memory.
func TestForcedStateInMemoryIsConfirmed(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: deadUpstream})
	p.signal(syscall.SIGTERM)
	p.wait()
	p.head = strings.Replace(p.head, fmt.Sprintf("data_dir: %q", p.folder), `data_dir: ""`, 1)
	p.write(deadUpstream)
	p.start()
	if r := p.force("svc", `{"state":"open"}`); r.status != http.StatusOK || strings.Contains(r.body, "not_persisted") {
		t.Errorf("%+v", r)
	}
}

// What the queue's operations have confirmed outlives a kill right after it: a dropped request stays away, and the delay of one
// that is to be tried now is over.
func TestConfirmedQueueOperationsOutliveAKill(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, breaker: {fail_max: 100}}}
fallbacks: {svc: {try: [queue], queue: {body: {queued: true}, ordered: false, backoff: 1h, max_backoff: 1h}}}
`, u.url())})
	p.force("svc", `{"state":"open"}`)
	p.mustQueue("a", "b")
	p.force("svc", `{"state":"closed"}`)
	var waiting []queuedRequest
	eventually(t, "the first attempt has failed", func() bool {
		_, waiting = p.backlog()
		return len(waiting) == 2 && waiting[0].NotBefore.After(time.Now())
	})
	p.force("svc", `{"state":"open"}`) // nothing is sent from now on
	const base = "/api/v1/queue/"
	if r := p.operate("DELETE", base+waiting[1].ID, adminToken); r.status != http.StatusOK {
		t.Fatalf("drop: %+v", r)
	}
	if r := p.operate("POST", base+waiting[0].ID+"/retry", adminToken); r.status != http.StatusOK {
		t.Fatalf("retry: %+v", r)
	}
	p.kill()
	p.start()
	_, left := p.backlog()
	if len(left) != 1 || left[0].ID != waiting[0].ID || left[0].NotBefore.After(time.Now()) {
		t.Errorf("after the kill: %+v", left)
	}
}
