package upstream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long data sent on an HTTP/2 connection may remain unacknowledged.
const unacknowledged = 15 * time.Second

// LimitUnacknowledged sets TCP_USER_TIMEOUT on c, a TCP connection: it fails once sent data remains unacknowledged for 15 s
// (RFC 5482). Use it for HTTP/2 only, whose peer always reads: over HTTP/1.1 it would also end a connection whose peer reads
// slowly.
func LimitUnacknowledged(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // on failure TCP only detects the loss later
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
}
