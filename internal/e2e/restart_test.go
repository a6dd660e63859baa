package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sameOpening fails the test unless both services have the same opening.
func sameOpening(t *testing.T, before, after service) {
	t.Helper()
	if after.State != "open" || after.RetryAt == nil || after.RetryAt.Sub(*before.RetryAt).Abs() > 50*time.Millisecond ||
		after.Since.Sub(before.Since).Abs() > 50*time.Millisecond || after.Openings != before.Openings || after.FailCounter != before.FailCounter {
		t.Errorf("before %+v (until %v), after %+v (until %v)", before, before.RetryAt, after, after.RetryAt)
	}
}

func TestOpenStateSurvivesRestart(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, options{config: deadUpstream})
			before := p.open()
			for n := range 3 {
				p.signal(signal)
				p.wait()
				p.start()
				sameOpening(t, before, p.health().Services["svc"])
				eventually(t, "that is kept too", func() bool { return len(p.history("svc")) == n+2 })
				if r := p.get("/svc"); r.state() != "open" || r.status != 503 {
					t.Errorf("after the restart: %+v", r)
				}
			}
			changes := p.history("svc")
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
	p := startProxy(t, options{config: `routes: {svc: {prefix: /svc, upstream: "http://127.0.0.1:1", breaker: {fail_max: 1, recovery_timeout: 0.2,
  recovery_backoff: {multiplier: 10, max: 60s, jitter: 0}}}}` + "\n"})
	eventually(t, "it has opened for the second time", func() bool { p.get("/svc"); return p.health().Services["svc"].Openings == 2 })
	p.signal(syscall.SIGTERM)
	p.wait()
	p.start()
	if s := p.health().Services["svc"]; s.Openings != 2 {
		t.Errorf("after the restart: %+v", s)
	}
	eventually(t, "it opens for the third time", func() bool { p.get("/svc"); return p.health().Services["svc"].Openings == 3 })
	if s := p.health().Services["svc"]; s.RetryAt.Sub(s.Since).Round(time.Second) != 20*time.Second {
		t.Errorf("the third opening lasts %v", s.RetryAt.Sub(s.Since))
	}
}

func TestForcedStatesSurviveRestart(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: `
routes:
  endless: {prefix: /endless, upstream: "http://127.0.0.1:1"}
  until: {prefix: /until, upstream: "http://127.0.0.1:1"}
  closed: {prefix: /closed, upstream: "http://127.0.0.1:1", breaker: {fail_max: 1}}
  brief: {prefix: /brief, upstream: "http://127.0.0.1:1"}
`})
	p.force("endless", `{"state":"open","reason":"moving"}`)
	p.force("until", `{"state":"open","duration":"10m"}`)
	p.force("closed", `{"state":"closed"}`)
	p.force("brief", `{"state":"open","duration":0.3}`)
	before := p.health().Services
	p.signal(syscall.SIGTERM)
	p.wait()
	p.start()
	after := p.health().Services
	if f := after["endless"].Forced; f == nil || f.State != "open" || f.Reason != "moving" || f.Until != nil {
		t.Errorf("endless: %+v", f)
	}
	if f := after["until"].Forced; f == nil || f.Until == nil || f.Until.Sub(*before["until"].Forced.Until).Abs() > 50*time.Millisecond {
		t.Errorf("until: %+v, was %+v", f, before["until"].Forced)
	}
	p.get("/closed")
	p.get("/closed")
	if s := p.health().Services["closed"]; s.State != "closed" || s.Forced == nil {
		t.Errorf("closed: %+v", s)
	}
	eventually(t, "the brief one ends", func() bool { return p.health().Services["brief"].Forced == nil })
}

// TestOpeningExpiredDuringDowntimeIsProbed checks that such a breaker is half-open after the restart, not
// closed.
func TestOpeningExpiredDuringDowntimeIsProbed(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	config := fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %s, timeout: 0.2, breaker: {fail_max: 2, recovery_timeout: 1}}}\n", u.url())
	p := startProxy(t, options{config: config})
	u.pause()
	before := p.open()
	p.signal(syscall.SIGKILL)
	p.wait()
	u.resume()
	time.Sleep(time.Until(*before.RetryAt)) // the proxy is down when the opening expires
	p.start()
	if r := p.get("/svc"); r.status != 200 || r.state() != "half-open" {
		t.Errorf("the first request: %+v", r)
	}
	if r := p.get("/svc"); r.state() != "closed" {
		t.Errorf("the second request: %+v", r)
	}
}

// TestShorterRecoveryTimeoutAppliesAfterRestart checks that the current configuration determines the end of
// a restored opening.
func TestShorterRecoveryTimeoutAppliesAfterRestart(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: deadUpstream})
	before := p.open()
	p.signal(syscall.SIGTERM)
	p.wait()
	p.write(strings.Replace(deadUpstream, "recovery_timeout: 60", "recovery_timeout: 20", 1))
	p.start()
	if s := p.health().Services["svc"]; s.State != "open" || s.RetryAt.Sub(before.Since).Round(time.Second) != 20*time.Second {
		t.Errorf("before %+v, after %+v until %v", before, s, s.RetryAt)
	}
}

func TestRemovedAndRestoredServiceKeepsState(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: deadUpstream})
	before := p.open()
	p.replace(`routes: {other: {prefix: /other, upstream: "http://127.0.0.1:1"}}` + "\n")
	eventually(t, "it is gone", func() bool { return p.health().Services["svc"].State == "" })
	p.replace(deadUpstream)
	eventually(t, "it is back", func() bool { return p.health().Services["svc"].State != "" })
	sameOpening(t, before, p.health().Services["svc"])
}

func TestDamagedStoreIsSetAside(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: deadUpstream})
	p.open()
	p.signal(syscall.SIGTERM)
	p.wait()
	file := filepath.Join(p.folder, "cbproxy.db")
	if err := os.WriteFile(file, []byte("what is this?"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	if s := p.health().Services["svc"]; s.State != "closed" {
		t.Errorf("%+v", s)
	}
	if aside, _ := filepath.Glob(file + ".set-aside-*"); len(aside) != 1 || !strings.Contains(p.log.String(), aside[0]) {
		t.Errorf("set aside: %q", aside)
	}
	before := p.open()
	p.signal(syscall.SIGKILL)
	p.wait()
	p.start()
	sameOpening(t, before, p.health().Services["svc"])
}

func TestStoreInUseIsReported(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: deadUpstream})
	file := filepath.Join(t.TempDir(), "second.yaml")
	text := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata_dir: %q\n%s", freeAddress(t), freeAddress(t), p.folder, deadUpstream)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, out := run(t, "run", "--config", file)
	if status != 1 || !strings.Contains(out, "data_dir") || !strings.Contains(out, p.folder) || !strings.Contains(out, "in use by another process") {
		t.Errorf("exit status %d: %s", status, out)
	}
	p.open() // the first one goes on
}

// TestFullDiskIsReportedAndTolerated checks that a full disk prevents only persistence, and only until
// space is available.
func TestFullDiskIsReportedAndTolerated(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "1m")
	p := startProxy(t, options{dataDir: disk, config: deadUpstream})
	ballast := filepath.Join(disk, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 1<<20), 0o600) // fills the disk
	confirmed := 0
	for range 40 {
		for _, order := range []string{`{"state":"open","reason":"` + strings.Repeat("x", 900) + `"}`, `{"state":"closed","reason":"` + strings.Repeat("y", 900) + `"}`} {
			switch r := p.force("svc", order); {
			case r.status == http.StatusOK && !strings.Contains(r.body, "not_persisted"):
				confirmed++
			case r.status != http.StatusAccepted || !strings.Contains(r.body, `"not_persisted":"`) || !strings.Contains(r.body, "no space left"):
				t.Errorf("forced with a full disk: %+v", r)
			}
		}
	}
	if confirmed == 80 {
		t.Error("every forced state was confirmed, with a full disk")
	}
	p.force("svc", `{"state":"open"}`)
	eventually(t, "the error is reported", func() bool { return p.metric("cbproxy_store_errors_total") > 0 })
	if r := p.get("/svc"); r.state() != "open" {
		t.Errorf("with a full disk: %+v", r)
	}
	if n := strings.Count(p.log.String(), "cannot persist breaker state"); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is kept again", func() bool { return strings.Contains(p.log.String(), "is persisted again") })
	eventually(t, "the last change is kept", func() bool { h := p.history("svc"); return len(h) > 0 && h[0].To == "open" })
	p.signal(syscall.SIGKILL)
	p.wait()
	p.start()
	if s := p.health().Services["svc"]; s.State != "open" || s.Forced == nil {
		t.Errorf("after the restart: %+v", s)
	}
}
