package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// timeoutOf returns the timeout of the service svc in seconds, as the proxy reports it.
func timeoutOf(p *harness.Proxy) float64 { return p.Health().Services["svc"].Configuration.Timeout }

// TestEveryKindOfConfigEditIsApplied checks that the proxy detects a replaced symlink, a write in place, a rename over the
// file, and SIGHUP.
func TestEveryKindOfConfigEditIsApplied(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	folder := t.TempDir()
	// publish writes a version of the file as Kubernetes does for a ConfigMap: the file is a symlink to a symlink.
	publish := func(n int, config string) {
		versionFolder := filepath.Join(folder, fmt.Sprintf("..v%d", n))
		if err := os.Mkdir(versionFolder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(versionFolder, "config.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(folder, "..tmp")
		if err := os.Symlink(fmt.Sprintf("..v%d", n), link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
		_ = os.RemoveAll(filepath.Join(folder, fmt.Sprintf("..v%d", n-1)))
	}
	publish(1, "")
	file := filepath.Join(folder, "config.yaml")
	if err := os.Symlink("..data/config.yaml", file); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProxy(t, harness.Options{ConfigFile: file, Config: harness.RouteConfig(u, 1)})
	for n := 2; n < 6; n++ {
		publish(n, p.ConfigHead+harness.RouteConfig(u, n))
		harness.Eventually(t, "a replaced symlink is applied", func() bool { return timeoutOf(p) == float64(n) })
	}
	p.WriteConfig(harness.RouteConfig(u, 11))
	harness.Eventually(t, "a write in place is applied", func() bool { return timeoutOf(p) == 11 })
	if err := os.WriteFile(file+".new", []byte(p.ConfigHead+harness.RouteConfig(u, 12)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "a rename over the file is applied", func() bool { return timeoutOf(p) == 12 })
	before := p.Metric(`cbproxy_config_reloads_total{result="success"}`)
	p.Signal(syscall.SIGHUP)
	harness.Eventually(t, "SIGHUP reloads", func() bool { return p.Metric(`cbproxy_config_reloads_total{result="success"}`) == before+1 })
}

// TestInvalidEditIsRejectedAndReported checks that an invalid configuration is not applied, and that health, metrics and
// log report it. It also checks that a change that needs a restart is reported, while the others are applied.
func TestInvalidEditIsRejectedAndReported(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 1)})
	p.WriteConfig(harness.RouteConfig(u, -1) + "bogus: 1\n")
	harness.Eventually(t, "health reports the errors", func() bool { return p.Health().Config.LastError != nil })
	lastError := *p.Health().Config.LastError
	for _, want := range []string{":4:", "routes.svc.timeout: must be positive, got -1", "bogus: unknown key"} {
		if !strings.Contains(lastError, want) {
			t.Errorf("no %q in %s", want, lastError)
		}
	}
	if timeoutOf(p) != 1 || p.Get("/svc").Status != 200 {
		t.Error("the invalid configuration was applied")
	}
	if v := p.Metric(`cbproxy_config_reloads_total{result="failure"}`); v != 1 {
		t.Errorf("%v failed reloads are counted, want 1", v)
	}
	if v := p.Metric("cbproxy_config_last_reload_successful"); v != 0 {
		t.Errorf("cbproxy_config_last_reload_successful is %v, want 0", v)
	}
	harness.Eventually(t, "the errors are logged", func() bool { return strings.Contains(p.Log.String(), "must be positive") })
	p.WriteConfig(harness.RouteConfig(u, 2))
	harness.Eventually(t, "the corrected configuration is applied", func() bool { return timeoutOf(p) == 2 && p.Health().Config.LastError == nil })
	p.ConfigHead = strings.Replace(p.ConfigHead, "${DATA", "127.0.0.1:1 #", 1)
	p.WriteConfig(harness.RouteConfig(u, 3))
	harness.Eventually(t, "changes that need a restart are reported, the rest is applied", func() bool {
		h := p.Health()
		return h.Services["svc"].Configuration.Timeout == 3 && len(h.Config.RestartRequired) == 1 && h.Config.RestartRequired[0] == "listen"
	})
}

// TestReloadKeepsBreakerState checks that a reload keeps failure counts and open breakers, and applies a changed
// recovery_timeout to an open breaker.
func TestReloadKeepsBreakerState(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	u.Kill()
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 1)})
	p.Get("/svc")
	p.Get("/svc")
	p.WriteConfig(harness.RouteConfig(u, 2))
	harness.Eventually(t, "the new configuration is applied", func() bool { return timeoutOf(p) == 2 })
	if n := p.Health().Services["svc"].FailCounter; n != 2 {
		t.Fatalf("%d failures after a reload, want 2", n)
	}
	p.Get("/svc")
	opened := p.Health().Services["svc"]
	if opened.State != "open" {
		t.Fatalf("state %s after three failures", opened.State)
	}
	p.WriteConfig(harness.RouteConfig(u, 3))
	harness.Eventually(t, "the new configuration is applied", func() bool { return timeoutOf(p) == 3 })
	if now := p.Health().Services["svc"]; now.State != "open" || !now.RetryAt.Equal(*opened.RetryAt) {
		t.Errorf("the service is %+v after a reload, was %+v", now, opened)
	}
	p.WriteConfig(strings.Replace(harness.RouteConfig(u, 4), "recovery_timeout: 60", "recovery_timeout: 90", 1))
	harness.Eventually(t, "the breaker stays open for longer", func() bool {
		now := p.Health().Services["svc"]
		return now.RetryAt != nil && now.RetryAt.Sub(opened.Since).Round(time.Second) == 90*time.Second
	})
	p.WriteConfig(strings.Replace(harness.RouteConfig(u, 5), "recovery_timeout: 60", "recovery_timeout: 0.001", 1))
	harness.Eventually(t, "the recovery timeout has passed", func() bool { return p.Health().Services["svc"].State == "half-open" })
}

// TestReloadsUnderLoadFailNoRequests reloads twenty times a second under load, adding and removing a
// service and changing the other's timeout. No request may fail.
func TestReloadsUnderLoadFailNoRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	var sent atomic.Int64
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: harness.EventTimeout}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				default:
				}
				res, err := client.Get(p.URL + "/svc/x")
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if res.StatusCode != 200 || res.Header.Get("X-Fallback") != "" {
					t.Errorf("status %d, %v", res.StatusCode, res.Header)
					return
				}
				sent.Add(1)
			}
		})
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for i := range 80 {
		config := harness.RouteConfig(u, 10+i%7)
		if i%2 == 0 {
			config = strings.Replace(config, "routes: {", "routes: {extra: {prefix: /extra, upstream: 'http://127.0.0.1:1'}, ", 1)
		}
		p.ReplaceConfig(config)
		<-ticker.C
	}
	p.WriteConfig(harness.RouteConfig(u, 9))
	harness.Eventually(t, "the last configuration is applied", func() bool { return timeoutOf(p) == 9 })
	close(done)
	clients.Wait()
	if n := p.Metric(`cbproxy_config_reloads_total{result="success"}`); n < 20 {
		t.Errorf("only %v reloads", n)
	}
	if n := p.Metric(`cbproxy_config_reloads_total{result="failure"}`); n != 0 {
		t.Errorf("%v reloads failed", n)
	}
	if strings.Contains(p.Metrics(), `service="extra"`) {
		t.Error("the metrics contain a removed service")
	}
	if sent.Load() < 100 {
		t.Errorf("only %d requests succeeded", sent.Load())
	}
}
