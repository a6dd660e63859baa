//go:build unix

package http1

import (
	"crypto/tls"
	"net"
	"syscall"
)

// rawConn returns the descriptor of c, nil if there is none to be used. It is direct if what c says is sent by it as it is.
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

// isAgain reports whether a system call would have had to wait.
func isAgain(err error) bool { return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK }

// shutdown ends a connection for both sides, while it may be in use.
func shutdown(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) } // #nosec G115 -- fd is a descriptor; one that has ended already is fine
