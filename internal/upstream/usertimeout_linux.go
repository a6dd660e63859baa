package upstream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxUnacknowledged is the maximum time for which data sent on an HTTP/2 connection may remain unacknowledged.
const maxUnacknowledged = 15 * time.Second

// setTCPUserTimeout sets TCP_USER_TIMEOUT (RFC 5482) on c, a TCP connection: the connection fails when sent data has not been
// acknowledged for 15 s. It is for HTTP/2 only, where the peer always reads; over HTTP/1.1 it would also end a connection whose
// peer reads slowly.
func setTCPUserTimeout(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // on failure TCP only detects the loss later
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(maxUnacknowledged.Milliseconds()))
	})
}
