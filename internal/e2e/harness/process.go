package harness

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a cbproxy process that is running or has exited.
type Process struct {
	t          testing.TB
	Cmd        *exec.Cmd
	Exited     chan struct{} // closed when the process has exited
	ExitStatus int           // valid once Exited is closed
}

// StartProcess starts a cbproxy command. environment is added to the environment of the tests. Standard output and
// standard error are copied to out and log; nil discards them.
func StartProcess(t testing.TB, environment []string, out, log io.Writer, args ...string) *Process {
	t.Helper()
	return startCommand(t, environment, out, log, append([]string{Binary()}, args...))
}

func startCommand(t testing.TB, environment []string, out, log io.Writer, command []string) *Process {
	t.Helper()
	p := &Process{t: t, Cmd: exec.Command(command[0], command[1:]...), Exited: make(chan struct{})}
	p.Cmd.Env = append(WithoutTelemetry(os.Environ()), environment...)
	p.Cmd.Stdout, p.Cmd.Stderr = out, log
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait() // the error repeats the exit status
		p.ExitStatus = p.Cmd.ProcessState.ExitCode()
		close(p.Exited)
	}()
	return p
}

// Kill sends SIGKILL to the process.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Exited
}

// Stop ends the process at the end of a test. It kills the process, unless coverage is measured: a killed process writes
// no coverage counters, so Stop sends SIGTERM first.
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

// Wait waits until the process has exited, and returns its exit status.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.Exited:
		return p.ExitStatus
	case <-time.After(EventTimeout):
		p.t.Fatalf("cbproxy has not exited within %v", EventTimeout)
		return -1
	}
}

// WithoutTelemetry removes the OpenTelemetry variables from environment, which it modifies.
func WithoutTelemetry(environment []string) []string {
	return slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "OTEL_") })
}

// WithoutConfiguration removes the variables that configure cbproxy or the Go command from environment, which it
// modifies.
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
