package queue

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestQueueIsDeliveredAfterInjectedFaults checks that injected faults hit deliveries, that the queue says so, and that the requests are
// delivered once the faults have ended.
func TestQueueIsDeliveredAfterInjectedFaults(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("a", "b")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(harness.AdminToken), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"abort", "reset", "abort --status 200"} {
		args := append([]string{"fault", "svc"}, strings.Fields(flags+" --duration 1h --admin "+p.AdminURL+" --token-file "+token)...)
		if status, _, stderr := harness.RunCommand(t, args...); status != 0 {
			t.Fatalf("%v: exit status %d, %s", args, status, stderr)
		}
	}
	u.Start()
	t.Cleanup(u.Kill)
	harness.Eventually(t, "a delivery fails by the fault", func() bool {
		_, requests := p.Queue()
		return len(requests) == 2 && strings.HasPrefix(requests[0].LastError, "injected fault f1 (abort): status 503")
	})
	if n := len(u.Records()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
	for _, id := range []string{"f1", "f2"} {
		if r := p.AdminRequest("DELETE", "/api/v1/circuit-breakers/svc/faults/"+id, harness.AdminToken); r.Status != 200 {
			t.Errorf("%+v", r)
		}
	}
	u.AwaitDelivered("a", "b")
	p.AwaitEmptyQueue()
}
