package upstream

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long what was sent on a connection of HTTP/2 may remain unacknowledged.
const unacknowledged = 15 * time.Second

// LimitUnacknowledged ends c, a TCP connection, once its peer has acknowledged nothing for 15 s (RFC 5482). It is for
// connections of HTTP/2, whose peer always reads: on others the time also ends a connection whose peer takes its time
// to read.
func LimitUnacknowledged(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // without it TCP only takes longer
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
}
