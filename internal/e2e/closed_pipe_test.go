package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// closedPipe returns the writing end of a pipe whose reading end is closed.
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

// launchInto starts p again with standard output and error that lead to the given files.
func launchInto(p *proxyProcess, out, log *os.File) {
	p.t.Helper()
	p.process = startProcess(p.t, p.environment, out, log, append([]string{"run", "--config", p.file}, p.flags...)...)
	p.awaitReady()
}

// The process writes its own log to one closed pipe and its access log to another.
func TestProxyOutlivesTheReadersOfItsLogs(t *testing.T) {
	t.Parallel()
	for _, destination := range []string{"stdout", "stderr"} {
		for name, environment := range map[string][]string{"alone": nil, "with spans on standard output": {"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_SCHEDULE_DELAY=1"}} {
			t.Run(destination+" "+name, func(t *testing.T) {
				t.Parallel()
				config := deadUpstream + "access_log: {enabled: true, destination: " + destination + "}\n"
				p := startProxy(t, options{config: config, env: environment})
				p.signal(syscall.SIGTERM)
				p.wait()
				launchInto(p, closedPipe(t), closedPipe(t))
				p.open() // writes a line of each log
				p.replace(strings.Replace(config, "fail_max: 2", "fail_max: 3", 1))
				eventually(t, "the edit is in force", func() bool { return p.health().Services["svc"].Configuration.FailMax == 3 })
				p.signal(syscall.SIGHUP)
				p.force("svc", `{"state":"closed"}`)
				if r := p.get("/svc"); r.state() != "closed" {
					t.Errorf("with closed pipes: %+v", r)
				}
				p.signal(syscall.SIGTERM)
				if status := p.wait(); status != 0 {
					t.Errorf("exit status %d", status)
				}
			})
		}
	}
}

// A configuration's faults that cannot be printed are faults all the same.
func TestFaultsAreInTheExitStatusWithoutAReader(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/config.yaml"
	if err := os.WriteFile(file, []byte("routes: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, []string{endAtOnce}, nil, closedPipe(t), "run", "--config", file)
	if status := p.wait(); status != 2 {
		t.Errorf("exit status %d, want 2", status)
	}
}

// cbproxy status | true
func TestCommandsEndQuietlyInAPipeline(t *testing.T) {
	t.Parallel()
	p := startProxy(t, options{config: deadUpstream})
	for _, args := range []string{"status", "status -o json", "status --watch", "queue list", "queue list -o json", "force svc open -o json", "version", "schema", "check --config " + p.file, "--help"} {
		c := exec.Command(binary, strings.Fields(args)...)
		var log logBuffer
		c.Env = append(withoutTelemetry(os.Environ()), endAtOnce, "CBPROXY_ADMIN="+p.admin, "CBPROXY_ADMIN_TOKEN="+adminToken)
		c.Stdout, c.Stderr = closedPipe(t), &log
		if err := c.Run(); err != nil && !isExit(err) {
			t.Fatal(err)
		}
		if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE {
			t.Errorf("%s: ends with %v, want SIGPIPE", args, c.ProcessState)
		}
		if log.String() != "" {
			t.Errorf("%s: writes to standard error:\n%s", args, &log)
		}
	}
}
