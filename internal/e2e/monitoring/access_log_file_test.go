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

// TestAccessLogCanBeSwitchedUnderLoad checks that reloads enable and disable the access log without failing requests.
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
					t.Errorf("response %+v, want status 200", r)
					return
				}
			}
		})
	}
	for range 3 {
		before := len(readAccessLog(t, file))
		p.WriteConfig(accessLogConfig(file, ", query: true") + harness.RouteConfig(u, 10))
		harness.Eventually(t, "the log is enabled", func() bool { return len(readAccessLog(t, file)) > before })
		reloads := p.Metric(`cbproxy_config_reloads_total{result="success"}`)
		p.WriteConfig(harness.RouteConfig(u, 10))
		harness.Eventually(t, "the log is disabled", func() bool { return p.Metric(`cbproxy_config_reloads_total{result="success"}`) > reloads })
	}
	p.WriteConfig(accessLogConfig(filepath.Join(file, "no", "folder"), "") + harness.RouteConfig(u, 10))
	harness.Eventually(t, "a destination that cannot be opened is rejected", func() bool {
		e := p.Health().Config.LastError
		return e != nil && strings.Contains(*e, "access_log.destination")
	})
}

// TestAccessLogIsReopenedAndFlushed checks that SIGHUP reopens the file, that a shutdown writes buffered lines, and
// that sample 0 logs no successful request.
func TestAccessLogIsReopenedAndFlushed(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	file := filepath.Join(t.TempDir(), "access.log")
	p := harness.StartProxy(t, harness.Options{Config: accessLogConfig(file, ", sample: 0") + harness.RouteConfig(u, 10)})
	p.Get("/svc/not-sampled")
	p.Get("/before")
	awaitLogLine(t, file, "/before")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	harness.Eventually(t, "SIGHUP creates a new file", func() bool { _, err := os.Stat(file); return err == nil })
	harness.Eventually(t, "lines are written to the new file", func() bool { p.Get("/after"); return len(readAccessLog(t, file)) > 0 })
	p.Get("/last")
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	lines := readAccessLog(t, file)
	if last := lines[len(lines)-1]; last.Path != "/last" {
		t.Errorf("the last line is %+v, want path /last", last)
	}
	for _, line := range append(lines, readAccessLog(t, file+".1")...) {
		if line.Service != "" {
			t.Errorf("line outside the sample: %+v", line)
		}
	}
}

// TestBlockedAccessLogReaderDoesNotDelayRequests checks that the proxy drops lines and serves requests if the reader of
// its standard output blocks or exits.
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
	longPath := "/svc/" + strings.Repeat("x", 2000)
	harness.Eventually(t, "lines are dropped and counted", func() bool {
		for range 100 {
			if got := p.Get(longPath); got.Status != 200 {
				t.Fatalf("response %+v, want status 200", got)
			}
		}
		return p.Metric("cbproxy_access_log_dropped_total") > 0
	})
	first, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil || !json.Valid(first) {
		t.Errorf("%v: %q", err, first)
	}
	_ = r.Close()
	harness.Eventually(t, "the write error is logged", func() bool { return strings.Contains(p.Log.String(), "cannot write the access log") })
	if got := p.Get("/svc/x"); got.Status != 200 {
		t.Errorf("a request after the reader has closed: %+v", got)
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
