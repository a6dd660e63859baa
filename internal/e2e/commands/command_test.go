package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestCheckPrintsEveryFault(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	content := `listen: nowhere
routes:
  rag_service:
    upstream: ftp://rag
    timeout: -1s
    max_in_flight: -3
  other:
    prefix: /rag
    upstream: http://other
    brakes: {}
`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, _ := harness.RunCommand(t, "check", "--config", file)
	if status != 2 {
		t.Errorf("exit status %d", status)
	}
	for _, want := range []string{
		":1:1: listen: ", ":4:5: routes.rag_service.upstream: ", ":5:5: routes.rag_service.timeout: must be positive, got -1s\n",
		":6:5: routes.rag_service.max_in_flight: must be from 0 to 1000000, got -3\n", "routes.other.prefix: ", ":10:5: routes.other.brakes: unknown key",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if lines := strings.Count(out, "\n"); lines != 6 {
		t.Errorf("%d lines for 6 faults:\n%s", lines, out)
	}
	if status, _, stderr := harness.RunCommand(t, "run", "--config", file); status != 2 || !strings.Contains(stderr, "routes.rag_service.timeout") {
		t.Errorf("run: exit status %d, %s", status, stderr)
	}
}

func TestTheExampleIsValid(t *testing.T) {
	t.Parallel()
	if status, out, stderr := harness.RunCommand(t, "check", "--config", filepath.Join(harness.Repository, "config.example.yaml")); status != 0 {
		t.Errorf("exit status %d: %s%s", status, out, stderr)
	}
}

func TestExitStatusTells(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		status int
		says   string
	}{
		"version":                                {0, "go1."},
		"schema":                                 {0, "json-schema.org"},
		"":                                       {0, "Available Commands"},
		"brew":                                   {2, `unknown command "brew"`},
		"run --bogus":                            {2, "bogus"},
		"run --config no/such.yaml":              {2, "no/such.yaml"},
		"run --log-format xml":                   {2, "text or json"},
		"check --config no/such.yaml":            {2, "no such file"},
		"healthcheck --admin http://127.0.0.1:1": {1, "refused"},
	} {
		status, out, stderr := harness.RunCommand(t, strings.Fields(line)...)
		if status != want.status || !strings.Contains(out+stderr, want.says) {
			t.Errorf("cbproxy %s: exit status %d, %s%s", line, status, out, stderr)
		}
	}
	for _, command := range []string{"run", "check", "healthcheck", "schema", "version", "status", "force", "queue", "queue list", "queue retry", "queue drop"} {
		if status, out, _ := harness.RunCommand(t, append(strings.Fields(command), "--help")...); status != 0 || !strings.Contains(out, "Examples:\n  cbproxy "+command) {
			t.Errorf("cbproxy %s --help: exit status %d, %s", command, status, out)
		}
	}
}

func TestHealthcheckAndTakenPort(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 1)})
	if status, _, stderr := harness.RunCommand(t, "healthcheck", "--admin", p.AdminURL); status != 0 {
		t.Errorf("healthcheck: exit status %d, %s", status, stderr)
	}
	second := filepath.Join(t.TempDir(), "config.yaml") // the store is the first one's
	content := strings.Replace(p.ConfigHead, "data_dir:", `data_dir: "" #`, 1) + harness.RouteConfig(u, 1)
	if err := os.WriteFile(second, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := harness.RunCommand(t, "run", "--config", second); status != 1 || !strings.Contains(stderr, "address already in use") || !strings.Contains(stderr, "data plane: listen on 127.0.0.1:") {
		t.Errorf("second proxy: exit status %d, %s", status, stderr)
	}
}
