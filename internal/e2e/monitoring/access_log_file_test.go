package monitoring

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestAccessLogCanBeSwitchedUnderLoad(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	defer traffic.Wait()
	defer close(stop)
	for range 2 {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := p.Get("/svc/x"); r.Status != 200 {
					t.Errorf("%+v", r)
					return
				}
			}
		})
	}
	for range 3 {
		before := len(accessLines(t, file))
		p.WriteConfig(accessLogTo(file, ", query: true") + harness.RouteConfig(u, 10))
		harness.Eventually(t, "the log is on", func() bool { return len(accessLines(t, file)) > before })
		reloads := p.Metric(`cbproxy_config_reloads_total{result="success"}`)
		p.WriteConfig(harness.RouteConfig(u, 10))
		harness.Eventually(t, "the log is off", func() bool { return p.Metric(`cbproxy_config_reloads_total{result="success"}`) > reloads })
	}
	p.WriteConfig(accessLogTo(filepath.Join(file, "no", "folder"), "") + harness.RouteConfig(u, 10))
	harness.Eventually(t, "a destination that can't be opened is refused", func() bool {
		e := p.Health().Config.LastError
		return e != nil && strings.Contains(*e, "access_log.destination")
	})
}

func TestAccessLogIsReopenedAndFlushed(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{Config: accessLogTo(file, ", sample: 0") + harness.RouteConfig(u, 10)})
	p.Get("/svc/sampled-away")
	p.Get("/before")
	awaitLine(t, file, "/before")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	harness.Eventually(t, "SIGHUP opens a new file", func() bool { _, err := os.Stat(file); return err == nil })
	harness.Eventually(t, "which is in force", func() bool { p.Get("/after"); return len(accessLines(t, file)) > 0 })
	p.Get("/last")
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	lines := accessLines(t, file)
	if last := lines[len(lines)-1]; last.Path != "/last" {
		t.Errorf("the last line is %+v", last)
	}
	for _, line := range append(lines, accessLines(t, file+".1")...) {
		if line.Service != "" {
			t.Errorf("not in the sample: %+v", line)
		}
	}
}

// Whoever reads the log from standard output may stop reading, or die.
func TestBlockedAccessLogReaderDoesNotDelayRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "access_log: {enabled: true}\n" + harness.RouteConfig(u, 10)})
	p.Kill()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.Stdout = w
	p.Start()
	_ = w.Close()
	long := "/svc/" + strings.Repeat("x", 2000)
	harness.Eventually(t, "lines are dropped and counted", func() bool {
		for range 100 {
			if got := p.Get(long); got.Status != 200 {
				t.Fatalf("%+v", got)
			}
		}
		return p.Metric("cbproxy_access_log_dropped_total") > 0
	})
	first, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil || !json.Valid(first) {
		t.Errorf("%v: %q", err, first)
	}
	_ = r.Close()
	harness.Eventually(t, "the log tells", func() bool { return strings.Contains(p.Log.String(), "cannot write the access log") })
	if got := p.Get("/svc/x"); got.Status != 200 {
		t.Errorf("after the reader's end: %+v", got)
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
