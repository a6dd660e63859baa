package fleet

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// checkSameOpening fails the test unless both are the same opening of a breaker. Their times may differ by the time that a response of
// Redis takes on a busy machine, from which an instance reads Redis's clock.
func checkSameOpening(t *testing.T, before, after harness.ServiceHealth) {
	t.Helper()
	const tolerance = time.Second
	if after.State != "open" || after.RetryAt == nil || after.RetryAt.Sub(*before.RetryAt).Abs() > tolerance ||
		after.Since.Sub(before.Since).Abs() > tolerance || after.Openings != before.Openings || after.FailCounter != before.FailCounter {
		t.Errorf("before %+v (until %v), after %+v (until %v)", before, before.RetryAt, after, after.RetryAt)
	}
}

func TestOpenStateSurvivesRestart(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
			before := p.OpenBreaker()
			for n := range 3 {
				p.Signal(signal)
				p.Wait()
				p.Start()
				checkSameOpening(t, before, p.Health().Services["svc"])
				harness.Eventually(t, "the restore is in the history", func() bool { return len(p.History("svc")) == n+2 })
				if r := p.Get("/svc"); r.BreakerState() != "open" || r.Status != 503 {
					t.Errorf("after the restart: %+v", r)
				}
			}
			changes := p.History("svc")
			if len(changes) != 4 || changes[0].Cause != "restored" || changes[3].Cause != "consecutive_failures" ||
				changes[0].Instance == changes[3].Instance {
				t.Errorf("history %+v", changes)
			}
		})
	}
}

// TestBackoffSurvivesRestart checks that an opening extended by failed recoveries keeps its length after a
// restart, and so does the next one.
func TestBackoffSurvivesRestart(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: `routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1", breaker: {fail_max: 1, recovery_timeout: 0.2,
  recovery_backoff: {multiplier: 10, max: 60s, jitter: 0}}}}` + "\n"})
	harness.Eventually(t, "the breaker opens for the second time", func() bool { p.Get("/svc"); return p.Health().Services["svc"].Openings == 2 })
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.Start()
	if s := p.Health().Services["svc"]; s.Openings != 2 {
		t.Errorf("after the restart: %+v", s)
	}
	harness.Eventually(t, "the breaker opens for the third time", func() bool { p.Get("/svc"); return p.Health().Services["svc"].Openings == 3 })
	if s := p.Health().Services["svc"]; s.RetryAt.Sub(s.Since).Round(time.Second) != 20*time.Second {
		t.Errorf("the third opening lasts %v", s.RetryAt.Sub(s.Since))
	}
}

func TestForcedStatesSurviveRestart(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: `
routes:
  indefinite: {prefix: /indefinite, upstream: "http://127.0.0.1:1"}
  until: {prefix: /until, upstream: "http://127.0.0.1:1"}
  closed: {prefix: /closed, upstream: "http://127.0.0.1:1", breaker: {fail_max: 1}}
  brief: {prefix: /brief, upstream: "http://127.0.0.1:1"}
`})
	p.Force("indefinite", `{"state":"open","reason":"moving"}`)
	p.Force("until", `{"state":"open","duration":"10m"}`)
	p.Force("closed", `{"state":"closed"}`)
	p.Force("brief", `{"state":"open","duration":0.3}`)
	before := p.Health().Services
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.Start()
	after := p.Health().Services
	if f := after["indefinite"].Forced; f == nil || f.State != "open" || f.Reason != "moving" || f.Until != nil {
		t.Errorf("indefinite: %+v", f)
	}
	if f := after["until"].Forced; f == nil || f.Until == nil || f.Until.Sub(*before["until"].Forced.Until).Abs() > 50*time.Millisecond {
		t.Errorf("until: %+v, was %+v", f, before["until"].Forced)
	}
	p.Get("/closed")
	p.Get("/closed")
	if s := p.Health().Services["closed"]; s.State != "closed" || s.Forced == nil {
		t.Errorf("closed: %+v", s)
	}
	harness.Eventually(t, "the brief forced state expires", func() bool { return p.Health().Services["brief"].Forced == nil })
}

// TestOpeningExpiredDuringDowntimeIsProbed checks that a breaker is half-open after a restart, not closed, if its opening
// expired while the process was down.
func TestOpeningExpiredDuringDowntimeIsProbed(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: 0.2, breaker: {fail_max: 2, recovery_timeout: 1}}}\n", u.URL())
	p := harness.StartProxy(t, harness.Options{Config: config})
	u.Pause()
	before := p.OpenBreaker()
	p.Signal(syscall.SIGKILL)
	p.Wait()
	u.Resume()
	time.Sleep(time.Until(*before.RetryAt)) // the proxy is down when the opening expires
	p.Start()
	if r := p.Get("/svc"); r.Status != 200 || r.BreakerState() != "half-open" {
		t.Errorf("the first request: %+v", r)
	}
	if r := p.Get("/svc"); r.BreakerState() != "closed" {
		t.Errorf("the second request: %+v", r)
	}
}

// TestShorterRecoveryTimeoutAppliesAfterRestart checks that the current configuration determines the end of
// a restored opening.
func TestShorterRecoveryTimeoutAppliesAfterRestart(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	before := p.OpenBreaker()
	p.Signal(syscall.SIGTERM)
	p.Wait()
	p.WriteConfig(strings.Replace(harness.DeadUpstreamConfig, "recovery_timeout: 60", "recovery_timeout: 20", 1))
	p.Start()
	if s := p.Health().Services["svc"]; s.State != "open" || s.RetryAt.Sub(before.Since).Round(time.Second) != 20*time.Second {
		t.Errorf("before %+v, after %+v until %v", before, s, s.RetryAt)
	}
}

// TestRemovedAndRestoredServiceKeepsState checks that a service removed from the configuration and added again has the
// state it had before.
func TestRemovedAndRestoredServiceKeepsState(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	before := p.OpenBreaker()
	p.ReplaceConfig(`routes: {other: {prefix: /other, upstream: "http://127.0.0.1:1"}}` + "\n")
	harness.Eventually(t, "the service is removed", func() bool { return p.Health().Services["svc"].State == "" })
	p.ReplaceConfig(harness.DeadUpstreamConfig)
	harness.Eventually(t, "the service is restored", func() bool { return p.Health().Services["svc"].State != "" })
	checkSameOpening(t, before, p.Health().Services["svc"])
}

// TestDamagedStoreIsSetAside checks that a proxy renames a damaged store and uses a new one.
func TestDamagedStoreIsSetAside(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	p.OpenBreaker()
	p.Signal(syscall.SIGTERM)
	p.Wait()
	file := filepath.Join(p.DataDir, "cbproxy.db")
	if err := os.WriteFile(file, []byte("not a store"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Start()
	if s := p.Health().Services["svc"]; s.State != "closed" {
		t.Errorf("%+v", s)
	}
	if aside, _ := filepath.Glob(file + ".set-aside-*"); len(aside) != 1 || !strings.Contains(p.Log.String(), aside[0]) {
		t.Errorf("damaged stores set aside: %q", aside)
	}
	before := p.OpenBreaker()
	p.Signal(syscall.SIGKILL)
	p.Wait()
	p.Start()
	checkSameOpening(t, before, p.Health().Services["svc"])
}

func TestStoreInUseIsReported(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	file := filepath.Join(t.TempDir(), "second.yaml")
	text := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata_dir: %q\n%s", harness.FreeAddress(t), harness.FreeAddress(t), p.DataDir, harness.DeadUpstreamConfig)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, out := harness.RunCommand(t, "run", "--config", file)
	if status != 1 || !strings.Contains(out, "data_dir") || !strings.Contains(out, p.DataDir) || !strings.Contains(out, "in use by another process") {
		t.Errorf("exit status %d: %s", status, out)
	}
	p.OpenBreaker() // the first process still works
}

// TestFullDiskIsReportedAndTolerated checks that a full disk prevents only persistence, and only until
// space is available.
func TestFullDiskIsReportedAndTolerated(t *testing.T) {
	t.Parallel()
	disk := testenv.MountDisk(t, "1m")
	p := harness.StartProxy(t, harness.Options{DataDir: disk, Config: harness.DeadUpstreamConfig})
	free := testenv.FillDisk(t, disk)
	persisted := 0
	for range 40 {
		for _, body := range []string{`{"state":"open","reason":"` + strings.Repeat("x", 900) + `"}`, `{"state":"closed","reason":"` + strings.Repeat("y", 900) + `"}`} {
			switch r := p.Force("svc", body); {
			case r.Status == http.StatusOK && !strings.Contains(r.Body, "not_persisted"):
				persisted++
			case r.Status != http.StatusAccepted || !strings.Contains(r.Body, `"not_persisted":"`) || !strings.Contains(r.Body, "no space left"):
				t.Errorf("force with a full disk: %+v", r)
			}
		}
	}
	if persisted == 80 {
		t.Error("every forced state was persisted although the disk was full")
	}
	p.Force("svc", `{"state":"open"}`)
	harness.Eventually(t, "the error is reported", func() bool { return p.Metric("cbproxy_store_errors_total") > 0 })
	if r := p.Get("/svc"); r.BreakerState() != "open" {
		t.Errorf("with a full disk: %+v", r)
	}
	if n := strings.Count(p.Log.String(), "cannot persist breaker state"); n != 1 {
		t.Errorf("the log reports the error %d times, want 1", n)
	}
	free()
	harness.Eventually(t, "the log reports that the state is persisted", func() bool { return strings.Contains(p.Log.String(), "is persisted again") })
	harness.Eventually(t, "the last change is in the history", func() bool { h := p.History("svc"); return len(h) > 0 && h[0].To == "open" })
	p.Signal(syscall.SIGKILL)
	p.Wait()
	p.Start()
	if s := p.Health().Services["svc"]; s.State != "open" || s.Forced == nil {
		t.Errorf("after the restart: %+v", s)
	}
}
