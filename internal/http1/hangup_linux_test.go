package http1_test

import (
	"net"
	"syscall"
	"testing"

	"cbproxy/internal/http1"
)

// Without a hangup monitor all connections are handed off.
func TestAllConnectionsAreHandedOffWithoutMonitor(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	handedOff := make(chan net.Conn, 1)
	s := http1.NewServer(http1.ServerConfig{HandOff: func(c net.Conn, unread []byte) { handedOff <- c }})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, _ := dial(t, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.ServeConn(c)
	if got := <-handedOff; got != c {
		t.Error(got)
	}
	send(t, client, simple)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	s.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Errorf("read from the connection: %v", err)
	}
}
