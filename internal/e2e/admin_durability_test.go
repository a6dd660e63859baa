package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// A forced state that was confirmed by a 200 outlives a kill right after it.
func TestAcknowledgedForcedStateSurvivesKill(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{"instance", "fleet"} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			config, lose := harness.DeadUpstreamConfig, func() {}
			if scope == "fleet" {
				server := redistest.Start(t)
				config += fmt.Sprintf("redis: {url: %q}\n", server.URL())
				lose = func() { // so that only the disk has the state
					if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := harness.StartProxy(t, harness.Options{Config: config})
			killAndStart := func() {
				p.Kill()
				lose()
				p.Start()
			}
			for i := range 8 {
				state, reason := []string{"open", "closed"}[i%2], fmt.Sprint("reason ", i)
				body := fmt.Sprintf(`{"state":%q,"reason":%q,"scope":%q}`, state, reason, scope)
				r := harness.Response{}
				harness.Eventually(t, "it is confirmed", func() bool { r = p.Force("svc", body); return r.Status == http.StatusOK }) // the fleet may not have joined yet
				killAndStart()
				if s := p.Health().Services["svc"]; s.State != state || s.Forced == nil || s.Forced.Reason != reason {
					t.Errorf("after %s: %+v, %+v", body, s, s.Forced)
				}
			}
			harness.Eventually(t, "it is released", func() bool {
				return p.Force("svc", fmt.Sprintf(`{"state":"auto","scope":%q}`, scope)).Status == http.StatusOK
			})
			killAndStart()
			if s := p.Health().Services["svc"]; s.Forced != nil {
				t.Errorf("after the release: %+v", s.Forced)
			}
		})
	}
}

// Without a folder a state is confirmed once it is in memory.
func TestForcedStateWithoutDataDirIsAcknowledged(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.ConfigHead = strings.Replace(p.ConfigHead, fmt.Sprintf("data_dir: %q", p.DataDir), `data_dir: ""`, 1)
	p.WriteConfig(harness.DeadUpstreamConfig)
	p.Start()
	if r := p.Force("svc", `{"state":"open"}`); r.Status != http.StatusOK || strings.Contains(r.Body, "not_persisted") {
		t.Errorf("%+v", r)
	}
}

// What the queue's operations have confirmed outlives a kill right after it: a dropped request stays away, and the delay of one
// that is to be tried now is over.
func TestAcknowledgedQueueOperationsSurviveKill(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, breaker: {fail_max: 100}}}
fallbacks: {svc: {try: [queue], queue: {body: {queued: true}, ordered: false, backoff: 1h, max_backoff: 1h}}}
`, u.URL())})
	p.Force("svc", `{"state":"open"}`)
	p.MustQueue("a", "b")
	p.Force("svc", `{"state":"closed"}`)
	var waiting []harness.QueuedRequest
	harness.Eventually(t, "the first attempt has failed", func() bool {
		_, waiting = p.Queue()
		return len(waiting) == 2 && waiting[0].NotBefore.After(time.Now())
	})
	p.Force("svc", `{"state":"open"}`) // nothing is sent from now on
	const base = "/api/v1/queue/"
	if r := p.AdminRequest("DELETE", base+waiting[1].ID, harness.AdminToken); r.Status != http.StatusOK {
		t.Fatalf("drop: %+v", r)
	}
	if r := p.AdminRequest("POST", base+waiting[0].ID+"/retry", harness.AdminToken); r.Status != http.StatusOK {
		t.Fatalf("retry: %+v", r)
	}
	p.Kill()
	p.Start()
	_, left := p.Queue()
	if len(left) != 1 || left[0].ID != waiting[0].ID || left[0].NotBefore.After(time.Now()) {
		t.Errorf("after the kill: %+v", left)
	}
}
