package main

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

const (
	startTimeout = 15 * time.Second // for a process to accept connections
	stopTimeout  = 10 * time.Second // after SIGTERM, before it is killed
)

// process is one contender, or the upstream.
type process struct {
	name    string
	address string
	admin   string // address of cbproxy's admin plane
	cmd     *exec.Cmd
	stop    context.CancelFunc
	exited  chan struct{} // closed when it has ended
	log     string        // file with everything it printed
}

// start runs a command which is to listen at address, and waits until it does.
// Its output goes to a file in dir.
func start(ctx context.Context, dir, name, address string, command ...string) (*process, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &process{name: name, address: address, stop: stop, exited: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		stop()
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout
	if err := p.cmd.Start(); err != nil {
		stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended shows in its log
		close(p.exited)
	}()
	if err := p.waitUntilItListens(ctx); err != nil {
		p.close()
		return nil, fmt.Errorf("start %s: %w%s", name, err, p.said())
	}
	return p, nil
}

func (p *process) waitUntilItListens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", p.address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("nothing listens at %s: %w", p.address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// said returns the end of what the process printed, for an error's text.
func (p *process) said() string {
	b, err := os.ReadFile(p.log)
	b = bytes.TrimSpace(b)
	if err != nil || len(b) == 0 {
		return ""
	}
	return fmt.Sprintf("; it said:\n%s", b[max(0, len(b)-2000):])
}

// cpu returns the CPU time the process has used.
func (p *process) cpu() (time.Duration, error) { return cpuTime(p.cmd.Process.Pid) }

// close ends the process and waits for its end.
func (p *process) close() {
	p.stop()
	<-p.exited
}

// freeAddress returns a loopback address at which nobody listens. Nothing
// keeps it free, but the kernel hands out others first.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
