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

// process is a cbproxy command that runs, or has.
type process struct {
	t       testing.TB
	command *exec.Cmd
	exited  chan struct{}
	status  int // once exited is closed
}

// startProcess starts a command, with these variables besides the environment's. out and log get what it
// writes; nil: nobody does.
func startProcess(t testing.TB, environment []string, out, log io.Writer, args ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.Command(binary, args...), exited: make(chan struct{})}
	p.command.Env = append(withoutTelemetry(os.Environ()), environment...)
	p.command.Stdout, p.command.Stderr = out, log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // the status tells
		p.status = p.command.ProcessState.ExitCode()
		close(p.exited)
	}()
	return p
}

// withoutTelemetry keeps away what the environment of the tests says of OpenTelemetry.
func withoutTelemetry(environment []string) []string {
	return slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "OTEL_") })
}

// kill ends the process without a warning.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// end ends the process at the end of a test. It kills the process, unless coverage is measured: a process
// that is killed writes no counters, so it gets SIGTERM first.
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

// logBuffer collects a process's log.
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

// reviewLog fails the test for what must not be in the log of any proxy, and shows the log of a test that
// has failed.
func reviewLog(t testing.TB, whose string, log *logBuffer) {
	t.Helper()
	if strings.Contains(log.String(), "DATA RACE") || strings.Contains(log.String(), "panic while serving") {
		t.Error("the proxy raced or panicked")
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", whose, log)
	}
}
