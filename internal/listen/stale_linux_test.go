package listen_test

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestListenReplacesStaleSocket checks that Listen replaces the socket of a process that has ended.
func TestListenReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stale.sock")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	l, err := open(t, "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// TestListenKeepsSocketInUse checks that Listen does not replace the socket of a process that is running, even if that process
// does not accept connections at the moment.
func TestListenKeepsSocketInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "busy.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for connected := 0; ; connected++ {
		l, err := open(t, "unix://"+path)
		if err == nil {
			_ = l.Close()
			t.Fatalf("Listen replaced the socket with %d connections in the accept queue", connected)
		}
		c, err := net.Dial("unix", path)
		if err != nil { // the accept queue is full
			break
		}
		defer func() { _ = c.Close() }()
	}
	if _, err := open(t, "unix://"+path); err == nil || !strings.Contains(err.Error(), "check for another process") {
		t.Errorf("error %v", err)
	}
}
