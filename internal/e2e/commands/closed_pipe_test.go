package commands

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// closedPipe returns the write end of a pipe whose read end is closed.
func closedPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// restartInto starts p again, with the given files as standard output and standard error.
func restartInto(p *harness.Proxy, out, log *os.File) {
	p.T.Helper()
	p.Process = harness.StartProcess(p.T, p.Env, out, log, append([]string{"run", "--config", p.ConfigFile}, p.Flags...)...)
	p.AwaitReady()
}

// TestProxyRunsWithClosedLogPipes checks that the proxy serves, reloads and shuts down while its log and its access log
// cannot be written.
func TestProxyRunsWithClosedLogPipes(t *testing.T) {
	t.Parallel()
	for _, destination := range []string{"stdout", "stderr"} {
		for name, environment := range map[string][]string{"alone": nil, "with spans on standard output": {"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_SCHEDULE_DELAY=1"}} {
			t.Run(destination+" "+name, func(t *testing.T) {
				t.Parallel()
				config := harness.DeadUpstreamConfig + "access_log: {enabled: true, destination: " + destination + "}\n"
				p := harness.StartProxy(t, harness.Options{Config: config, Env: environment})
				p.Signal(syscall.SIGTERM)
				p.Wait()
				restartInto(p, closedPipe(t), closedPipe(t))
				p.OpenBreaker() // writes to both logs
				p.ReplaceConfig(strings.Replace(config, "fail_max: 2", "fail_max: 3", 1))
				harness.Eventually(t, "the edit is active", func() bool { return p.Health().Services["svc"].Configuration.FailMax == 3 })
				p.Signal(syscall.SIGHUP)
				p.Force("svc", `{"state":"closed"}`)
				if r := p.Get("/svc"); r.BreakerState() != "closed" {
					t.Errorf("after force-state: %+v, want state closed", r)
				}
				p.Signal(syscall.SIGTERM)
				if status := p.Wait(); status != 0 {
					t.Errorf("exit status %d", status)
				}
			})
		}
	}
}

// TestInvalidConfigurationExitsWith2OnClosedPipe checks the exit status if the faults cannot be printed.
func TestInvalidConfigurationExitsWith2OnClosedPipe(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/config.yaml"
	if err := os.WriteFile(file, []byte("routes: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProcess(t, []string{harness.ExitWithoutDelay}, nil, closedPipe(t), "run", "--config", file)
	if status := p.Wait(); status != 2 {
		t.Errorf("exit status %d, want 2", status)
	}
}

// TestCommandsDieOfSIGPIPE checks that a command in `cbproxy status | true` ends by SIGPIPE, without an error message.
func TestCommandsDieOfSIGPIPE(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: harness.DeadUpstreamConfig})
	for _, args := range []string{"status", "status -o json", "status --watch", "queue list", "queue list -o json", "force svc open -o json", "version", "schema", "check --config " + p.ConfigFile, "--help"} {
		c := exec.Command(harness.Binary(), strings.Fields(args)...)
		var log harness.LogBuffer
		c.Env = append(harness.WithoutTelemetry(os.Environ()), harness.ExitWithoutDelay, "CBPROXY_ADMIN="+p.AdminURL, "CBPROXY_ADMIN_TOKEN="+harness.AdminToken)
		c.Stdout, c.Stderr = closedPipe(t), &log
		if err := c.Run(); err != nil && !harness.IsExitError(err) {
			t.Fatal(err)
		}
		if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE {
			t.Errorf("%s: %v, want SIGPIPE", args, c.ProcessState)
		}
		if log.String() != "" {
			t.Errorf("%s: standard error is not empty:\n%s", args, &log)
		}
	}
}
