package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a cbproxy command that is running or has exited.
type process struct {
	t       testing.TB
	command *exec.Cmd
	exited  chan struct{}
	status  int // valid once exited is closed
}

// startProcess starts a command. environment is added to that of the tests. Standard output and standard
// error are copied to out and log; nil discards them.
func startProcess(t testing.TB, environment []string, out, log io.Writer, args ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.Command(binary, args...), exited: make(chan struct{})}
	p.command.Env = append(withoutTelemetry(os.Environ()), environment...)
	p.command.Stdout, p.command.Stderr = out, log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // the exit status is checked instead
		p.status = p.command.ProcessState.ExitCode()
		close(p.exited)
	}()
	return p
}

// withoutTelemetry removes OpenTelemetry variables from the environment.
func withoutTelemetry(environment []string) []string {
	return slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "OTEL_") })
}

// kill sends SIGKILL to the process.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// end stops the process at the end of a test. It kills the process, unless coverage is measured: a killed
// process writes no counters, so it gets SIGTERM first.
func (p *process) end() {
	if os.Getenv("GOCOVERDIR") != "" && p.command.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.exited:
			return
		case <-time.After(patience):
		}
	}
	p.kill()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.status
	case <-time.After(patience):
		p.t.Fatal("cbproxy does not exit")
		return -1
	}
}

// logBuffer collects the log of a process. It is safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// reviewLog fails the test if the log reports a data race or a panic, and prints the log of a failed test.
func reviewLog(t testing.TB, whose string, log *logBuffer) {
	t.Helper()
	if strings.Contains(log.String(), "DATA RACE") || strings.Contains(log.String(), "panic while serving") {
		t.Error("the proxy raced or panicked")
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", whose, log)
	}
}

// ordinary returns the environment without the variables that configure cbproxy.
func ordinary(environment []string) []string {
	return slices.DeleteFunc(withoutTelemetry(environment), func(v string) bool {
		for _, prefix := range []string{"CBPROXY_", "CIRCUIT_BREAKER_", "REDIS_", "GOFLAGS="} {
			if strings.HasPrefix(v, prefix) {
				return true
			}
		}
		return false
	})
}
