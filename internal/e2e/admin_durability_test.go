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

// TestAcknowledgedForcedStateSurvivesKill checks that a forced state, or its release, that was acknowledged with 200
// survives a kill of the process immediately after.
func TestAcknowledgedForcedStateSurvivesKill(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{"instance", "fleet"} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			config, clearRedis := harness.DeadUpstreamConfig, func() {}
			if scope == "fleet" {
				server := redistest.Start(t)
				config += fmt.Sprintf("redis: {url: %q}\n", server.URL())
				clearRedis = func() { // so that only the disk has the state
					if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			p := harness.StartProxy(t, harness.Options{Config: config})
			restart := func() {
				p.Kill()
				clearRedis()
				p.Start()
			}
			for i := range 8 {
				state, reason := []string{"open", "closed"}[i%2], fmt.Sprint("reason ", i)
				body := fmt.Sprintf(`{"state":%q,"reason":%q,"scope":%q}`, state, reason, scope)
				// The first requests may fail because the instance has not joined the fleet yet.
				harness.Eventually(t, "the state is forced", func() bool { return p.Force("svc", body).Status == http.StatusOK })
				restart()
				if s := p.Health().Services["svc"]; s.State != state || s.Forced == nil || s.Forced.Reason != reason {
					t.Errorf("after %s and a restart: %+v, %+v", body, s, s.Forced)
				}
			}
			harness.Eventually(t, "the state is released", func() bool {
				return p.Force("svc", fmt.Sprintf(`{"state":"auto","scope":%q}`, scope)).Status == http.StatusOK
			})
			restart()
			if s := p.Health().Services["svc"]; s.Forced != nil {
				t.Errorf("after the release and a restart: %+v", s.Forced)
			}
		})
	}
}

// TestForcedStateWithoutDataDirIsAcknowledged checks that a proxy without data_dir acknowledges a forced state once it
// is in memory.
func TestForcedStateWithoutDataDirIsAcknowledged(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.ConfigHead = strings.Replace(p.ConfigHead, fmt.Sprintf("data_dir: %q", p.DataDir), `data_dir: ""`, 1)
	p.WriteConfig(harness.DeadUpstreamConfig)
	p.Start()
	if r := p.Force("svc", `{"state":"open"}`); r.Status != http.StatusOK || strings.Contains(r.Body, "not_persisted") {
		t.Errorf("force open: %+v, want status 200 without not_persisted", r)
	}
}

// TestAcknowledgedQueueOperationsSurviveKill checks that acknowledged operations on the queue survive a kill of the
// process immediately after: a dropped request is not restored, and a retried request has no delay.
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
	p.Force("svc", `{"state":"open"}`) // no delivery is attempted from now on
	const base = "/api/v1/queue/"
	if r := p.AdminRequest("DELETE", base+waiting[1].ID, harness.AdminToken); r.Status != http.StatusOK {
		t.Fatalf("drop: %+v", r)
	}
	if r := p.AdminRequest("POST", base+waiting[0].ID+"/retry", harness.AdminToken); r.Status != http.StatusOK {
		t.Fatalf("retry: %+v", r)
	}
	p.Kill()
	p.Start()
	_, remaining := p.Queue()
	if len(remaining) != 1 || remaining[0].ID != waiting[0].ID || remaining[0].NotBefore.After(time.Now()) {
		t.Errorf("after the restart: %+v", remaining)
	}
}
