package harness

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Upstream is an upstream process that can be killed, paused and restarted at the same address.
type Upstream struct {
	T       testing.TB
	Address string
	Env     []string // additional environment variables

	command *exec.Cmd // the current or last process
}

// StartUpstream starts an upstream. It is killed at the end of the test.
func StartUpstream(t testing.TB) *Upstream {
	t.Helper()
	u := &Upstream{T: t, Address: FreeAddress(t)}
	u.Start()
	t.Cleanup(u.Kill)
	return u
}

// URL returns the base URL of the upstream.
func (u *Upstream) URL() string { return "http://" + u.Address }

// Start starts the process and waits until it listens.
func (u *Upstream) Start() {
	u.T.Helper()
	self, err := os.Executable()
	if err != nil {
		u.T.Fatal(err)
	}
	u.command = exec.Command(self)
	u.command.Env = append(append(os.Environ(), UpstreamVariable+"="+u.Address), u.Env...)
	u.command.Stderr = os.Stderr
	if err := u.command.Start(); err != nil {
		u.T.Fatal(err)
	}
	Eventually(u.T, "the upstream listens", func() bool {
		c, err := net.Dial("tcp", u.Address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// Kill sends SIGKILL to the process and waits until it has exited.
func (u *Upstream) Kill() {
	_ = u.command.Process.Kill()
	_ = u.command.Wait()
}

// Pause suspends the process. Its sockets stay open, and it does not respond.
func (u *Upstream) Pause() {
	u.T.Helper()
	pid := u.command.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		u.T.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		u.T.Fatalf("suspend the upstream: %v, status %v", err, status)
	}
}

// Resume continues a process that Pause has suspended.
func (u *Upstream) Resume() {
	u.T.Helper()
	if err := syscall.Kill(u.command.Process.Pid, syscall.SIGCONT); err != nil {
		u.T.Fatal(err)
	}
}
