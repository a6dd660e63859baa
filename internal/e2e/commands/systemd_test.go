package commands

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// TestSystemdUnitIsValidAndConfined checks that systemd accepts the unit and its socket, and rates its exposure at 2 of 10
// or less.
func TestSystemdUnitIsValidAndConfined(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		testenv.SkipUnlessCI(t, "systemd-analyze", err)
	}
	content := harness.ReadFile(t, filepath.Join(harness.Repository, "deploy/cbproxy.service"))
	unit := filepath.Join(t.TempDir(), "cbproxy.service")
	text := strings.ReplaceAll(string(content), "/usr/local/bin/cbproxy", harness.Binary()) // verify checks that the binary exists
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(filepath.Dir(unit), "cbproxy.socket") // is found beside its service
	socketText := harness.ReadFile(t, filepath.Join(harness.Repository, "deploy/cbproxy.socket"))
	if err := os.WriteFile(socket, socketText, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"FileDescriptorName=listen", "Service=cbproxy.service"} {
		if !strings.Contains(string(socketText), line+"\n") {
			t.Errorf("cbproxy.socket: no line %s", line)
		}
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit, socket).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", "--no-pager", unit).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, line := range []string{"ExecStart=" + harness.Binary() + " run --config /etc/cbproxy/config.yaml", "DynamicUser=yes", "StateDirectory=cbproxy",
		"LogsDirectory=cbproxy", "RuntimeDirectory=cbproxy", "StartLimitIntervalSec=0", "Restart=always", "LoadCredential=cbproxy.token"} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

// TestSystemdUnitIsStartedWhenTheProxyIsReady checks that the unit counts as started once the proxy is
// ready, and as failed immediately if the proxy exits.
func TestSystemdUnitIsStartedWhenTheProxyIsReady(t *testing.T) {
	t.Parallel()
	content := harness.ReadFile(t, filepath.Join(harness.Repository, "deploy/cbproxy.service"))
	_, script, _ := strings.Cut(string(content), "\nExecStartPost=/bin/sh -c '")
	script, _, ok := strings.Cut(script, "'\n")
	if !ok {
		t.Fatal("no ExecStartPost")
	}
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: 'http://127.0.0.1:1'}}\n"})
	started := func(p *harness.Proxy) (bool, string) {
		t.Helper()
		wait := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(script, "/usr/local/bin/cbproxy healthcheck", harness.Binary()+" healthcheck --admin "+p.AdminURL))
		wait.Env = append(os.Environ(), fmt.Sprintf("MAINPID=%d", p.Cmd.Process.Pid))
		wait.WaitDelay = harness.EventTimeout
		timer := time.AfterFunc(harness.EventTimeout, func() { _ = wait.Process.Kill() })
		defer timer.Stop()
		out, err := wait.CombinedOutput()
		if err != nil && wait.ProcessState.ExitCode() < 0 {
			t.Errorf("ExecStartPost does not exit: %s", out)
		}
		return err == nil, string(out)
	}
	if ok, out := started(p); !ok {
		t.Errorf("ExecStartPost fails with a ready proxy: %s", out)
	}
	p.Kill()
	if ok, out := started(p); ok {
		t.Errorf("ExecStartPost succeeds after the proxy has exited: %s", out)
	}
}

// TestSystemdUnitPassesTokenToProxy checks that the token is at the path documented in the unit's header,
// both in the unit and for the check command.
func TestSystemdUnitPassesTokenToProxy(t *testing.T) {
	t.Parallel()
	content := harness.ReadFile(t, filepath.Join(harness.Repository, "deploy/cbproxy.service"))
	_, line, _ := strings.Cut(string(content), "\n#   admin: ")
	line, _, ok := strings.Cut(line, " #")
	if !ok {
		t.Fatal("the header of the unit has no configuration")
	}
	credentials := t.TempDir()
	file := filepath.Join(t.TempDir(), "config.yaml")
	for path, text := range map[string]string{
		filepath.Join(credentials, "cbproxy.token"): "secret",
		file: "admin: " + line + "\nroutes: {svc: {prefix: /svc, upstream: 'http://127.0.0.1:1'}}\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for value, want := range map[string]string{credentials: "valid", "": "/etc/credstore/cbproxy.token"} {
		check := exec.CommandContext(t.Context(), harness.Binary(), "check", "--config", file)
		check.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+value)
		if out, _ := check.CombinedOutput(); !strings.Contains(string(out), want) { // the text implies the exit status
			t.Errorf("CREDENTIALS_DIRECTORY=%q: no %q in %s", value, want, out)
		}
	}
}
