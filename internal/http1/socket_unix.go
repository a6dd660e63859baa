//go:build unix

package http1

import (
	"crypto/tls"
	"net"
	"syscall"
)

// rawConn returns access to the descriptor of c, or nil if there is none. direct reports whether bytes written to c are sent
// unchanged, that is, without TLS.
func rawConn(c net.Conn) (raw syscall.RawConn, direct bool) {
	direct = true
	for {
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		_, secure := c.(*tls.Conn)
		direct = direct && !secure
		c = outer.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := s.SyscallConn()
	return raw, direct && err == nil
}

// isAgain reports whether err means that a system call would have blocked.
func isAgain(err error) bool { return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK }

// shutdown ends both directions of a connection that may be in use.
func shutdown(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) } // #nosec G115 -- fd is a descriptor; an error means that the connection has already ended
