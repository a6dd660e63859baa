package commands

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestWatchShowsChanges checks that `status --watch` draws a state change, a lost connection, and the status of the
// proxy that is started in place of the killed one.
func TestWatchShowsChanges(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	out := new(harness.LogBuffer)
	c := exec.Command(harness.Binary(), "status", "--watch", "--admin", p.AdminURL)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		if t.Failed() {
			t.Logf("output:\n%s", out)
		}
	})
	awaitText := func(text string) {
		t.Helper()
		harness.Eventually(t, "the output has "+text, func() bool { return strings.Contains(out.String(), text) })
	}
	awaitText("healthy")
	for range 2 {
		p.Get("/svc")
	}
	awaitText("critical")
	awaitText("2/2")
	p.Kill()
	awaitText("CONNECTION LOST")
	p.Start()
	instance := p.Health().Instance // differs from that of the killed process
	awaitText("instance " + instance)
	if text := out.String(); strings.Contains(text[strings.LastIndex(text, instance):], "CONNECTION LOST") {
		t.Errorf("the new connection is reported as lost:\n%s", text)
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGINT: %v\n%s", err, out)
	}
}
