package commands

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// manyRoutes returns the configuration of n services whose upstreams refuse connections.
func manyRoutes(n int) string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range n {
		fmt.Fprintf(&b, "  service_%02d: {prefix: /s%d, upstream: 'http://127.0.0.1:1', breaker: {fail_max: 1, recovery_timeout: 600}}\n", i, i)
	}
	return b.String()
}

// TestWatchRedrawsInPlaceOnTerminal checks that `status --watch` redraws a terminal window without scrolling it, and cuts
// the status to its size.
func TestWatchRedrawsInPlaceOnTerminal(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: manyRoutes(12)})
	s := startTerminal(t, 100, 24, []string{"TERM=xterm", "NO_COLOR="}, "status", "--watch", "--admin", p.AdminURL)
	s.awaitText("healthy · instance", "service_00", "service_11")
	p.Get("/s3")
	s.awaitText("critical", "service_03  open")
	before, scrolled, colours := s.stats()
	if scrolled > 0 || !colours {
		t.Errorf("%d scrolled lines, colours %v", scrolled, colours)
	}
	harness.Eventually(t, "the window is redrawn to update ages", func() bool { now, _, _ := s.stats(); return now > before })

	s.resize(30, 9) // fewer lines than the table, and narrower
	harness.Eventually(t, "the status is cut to the window", func() bool {
		text := s.String()
		return strings.Contains(text, "service_03  open    ") && strings.Contains(text, "…\n") && strings.HasSuffix(text, "\n… and 8 more lines\n\n") &&
			strings.Count(text, "critical") == 1 && strings.Count(text, "\n\n") == 2 && strings.Count(text, "service_") == 4
	})
	s.resetScrolled()
	p.Get("/s11") // is below the window
	p.Get("/s2")
	s.awaitText("service_02  open    ")
	s.resize(100, 24)
	s.awaitText("service_11  open")
	if strings.Contains(s.String(), "more lines") {
		t.Errorf("lines are omitted in the large window:\n%s", s)
	}
	if _, scrolled, _ := s.stats(); scrolled > 0 {
		t.Errorf("%d scrolled lines", scrolled)
	}
	if status := s.interrupt(); status != 0 {
		t.Errorf("exit status %d after Ctrl-C", status)
	}
	if text := s.String(); !strings.Contains(text, "service_11") || strings.Contains(text, "context canceled") {
		t.Errorf("after the exit:\n%s", text)
	}
}

// TestLimitedTerminalsGetPlainText checks that `status --watch` uses no colours with NO_COLOR, and no control sequences on
// a terminal that may not support them.
func TestLimitedTerminalsGetPlainText(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: manyRoutes(2)})
	p.Get("/s0")
	for name, c := range map[string]struct {
		environment []string
		inPlace     bool // whether the status is redrawn in place
	}{
		"no colour": {[]string{"TERM=xterm", "NO_COLOR=1"}, true},
		"dumb":      {[]string{"TERM=dumb", "NO_COLOR="}, false},
		"unknown":   {[]string{"TERM=", "NO_COLOR="}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startTerminal(t, 80, 24, c.environment, "status", "--watch", "--admin", p.AdminURL)
			s.awaitText("service_00  open")
			if r := p.Force("service_01", `{"state": "closed"}`); r.Status != 200 {
				t.Fatalf("%+v", r)
			}
			s.awaitText("closed until released")
			if homes, _, colours := s.stats(); colours || homes > 0 != c.inPlace {
				t.Errorf("colours %v, %d redraws in place, want in place: %v", colours, homes, c.inPlace)
			}
			if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-s.closed
			if err := s.command.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
