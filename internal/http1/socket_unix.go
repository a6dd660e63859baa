//go:build unix

package http1

import (
	"crypto/tls"
	"io"
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

// What follows is one system call, which does not wait: the descriptors are Go's, and so never block.

func writeTo(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), p) // #nosec G115 -- fd is a descriptor
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// readFrom returns io.EOF at the end.
func readFrom(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Read(int(fd), p) // #nosec G115 -- fd is a descriptor
		switch {
		case err == syscall.EINTR:
			continue
		case n == 0 && err == nil:
			err = io.EOF
		}
		return max(n, 0), err
	}
}

// peekAt is readFrom for one byte, which stays.
func peekAt(fd uintptr) error {
	var first [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) // #nosec G115 -- fd is a descriptor
		switch {
		case err == syscall.EINTR:
			continue
		case n == 0 && err == nil:
			return io.EOF
		}
		return err
	}
}

// isAgain reports whether a system call would have had to wait.
func isAgain(err error) bool { return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK }
