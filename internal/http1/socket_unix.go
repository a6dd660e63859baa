//go:build unix

package http1

import (
	"crypto/tls"
	"syscall"
)

// watchSocket makes it possible to look at the connection's socket.
func (c *conn) watchSocket() {
	under := c.Conn
	if secure, ok := under.(*tls.Conn); ok {
		under = secure.NetConn()
	}
	s, ok := under.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	first := make([]byte, 1)
	c.socket = raw
	c.look = func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), first, syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // #nosec G115 -- fd is a descriptor
		c.quiet = n < 0 && (err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR)
		return true // without waiting
	}
}

// isQuiet reports whether the upstream has neither closed the connection nor said anything on it. It doesn't wait. What
// TLS says of its own accord, it says with the response before.
func (c *conn) isQuiet() bool {
	if c.socket == nil {
		return true // it can't be known
	}
	c.quiet = false
	return c.socket.Read(c.look) == nil && c.quiet
}
