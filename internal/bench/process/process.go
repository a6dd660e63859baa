package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const startTimeout = 15 * time.Second // until a process accepts connections

// StopTimeout is the time between SIGTERM and SIGKILL when a process is ended.
const StopTimeout = 10 * time.Second

// Process is a running process of a benchmark: a proxy or an upstream.
type Process struct {
	Name    string
	Address string
	Admin   string // address of cbproxy's admin API, "" for other processes
	Cmd     *exec.Cmd
	stop    context.CancelFunc
	Exited  chan struct{} // closed when the process has ended
	log     string        // path of the file with its output
}

// Start starts a command and waits until it listens at address. Its output goes to a file in dir. It ends when ctx is done.
func Start(ctx context.Context, dir, name, address string, command ...string) (*Process, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &Process{Name: name, Address: address, stop: stop, Exited: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		stop()
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	p.Cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.Cmd.Dir = dir
	p.Cmd.Stdout, p.Cmd.Stderr = log, log
	p.Cmd.Cancel = func() error { return p.Cmd.Process.Signal(syscall.SIGTERM) }
	p.Cmd.WaitDelay = StopTimeout
	if err := p.Cmd.Start(); err != nil {
		stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.Cmd.Wait() // the log shows why it ended
		close(p.Exited)
	}()
	if err := p.waitForListener(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("start %s: %w%s", name, err, p.Output())
	}
	return p, nil
}

// waitForListener waits until the process accepts connections, for at most startTimeout.
func (p *Process) waitForListener(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", p.Address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.Exited:
			return errors.New("the process ended")
		case <-ctx.Done():
			return fmt.Errorf("nothing listens at %s: %w", p.Address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Output returns the end of the process's output, formatted to be appended to an error.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.log)
	b = bytes.TrimSpace(b)
	if err != nil || len(b) == 0 {
		return ""
	}
	return fmt.Sprintf("; its output:\n%s", b[max(0, len(b)-2000):])
}

// CPUTime returns the CPU time that the process has used.
func (p *Process) CPUTime() (time.Duration, error) { return CPUTime(p.Cmd.Process.Pid) }

// Close ends the process and waits for its end.
func (p *Process) Close() {
	p.stop()
	<-p.Exited
}

// FreeAddress returns a loopback address at which nothing listens. The address is not reserved, but the kernel assigns
// different ports first.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
