package harness

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

// Process is a cbproxy command that is running or has exited.
type Process struct {
	t          testing.TB
	Cmd        *exec.Cmd
	Exited     chan struct{}
	ExitStatus int // valid once exited is closed
}

// StartProcess starts a command. environment is added to that of the tests. Standard output and standard
// error are copied to out and log; nil discards them.
func StartProcess(t testing.TB, environment []string, out, log io.Writer, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, Cmd: exec.Command(Binary, args...), Exited: make(chan struct{})}
	p.Cmd.Env = append(WithoutTelemetry(os.Environ()), environment...)
	p.Cmd.Stdout, p.Cmd.Stderr = out, log
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait() // the exit status is checked instead
		p.ExitStatus = p.Cmd.ProcessState.ExitCode()
		close(p.Exited)
	}()
	return p
}

// WithoutTelemetry removes OpenTelemetry variables from the environment.
func WithoutTelemetry(environment []string) []string {
	return slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "OTEL_") })
}

// Kill sends SIGKILL to the process.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Exited
}

// Stop stops the process at the end of a test. It kills the process, unless coverage is measured: a killed
// process writes no counters, so it gets SIGTERM first.
func (p *Process) Stop() {
	if os.Getenv("GOCOVERDIR") != "" && p.Cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.Exited:
			return
		case <-time.After(EventTimeout):
		}
	}
	p.Kill()
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Wait returns the exit status.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.Exited:
		return p.ExitStatus
	case <-time.After(EventTimeout):
		p.t.Fatal("cbproxy does not exit")
		return -1
	}
}

// LogBuffer collects the log of a process. It is safe for concurrent use.
type LogBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns what has been written so far.
func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// CheckLog fails the test if the log reports a data race or a panic, and prints the log of a failed test.
func CheckLog(t testing.TB, whose string, log *LogBuffer) {
	t.Helper()
	if strings.Contains(log.String(), "DATA RACE") || strings.Contains(log.String(), "panic while serving") {
		t.Error("the proxy raced or panicked")
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", whose, log)
	}
}

// WithoutConfiguration returns the environment without the variables that configure cbproxy.
func WithoutConfiguration(environment []string) []string {
	return slices.DeleteFunc(WithoutTelemetry(environment), func(v string) bool {
		for _, prefix := range []string{"CBPROXY_", "CIRCUIT_BREAKER_", "REDIS_", "GOFLAGS="} {
			if strings.HasPrefix(v, prefix) {
				return true
			}
		}
		return false
	})
}
