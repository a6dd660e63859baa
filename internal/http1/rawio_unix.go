//go:build unix && !linux

package http1

import (
	"io"
	"syscall"
)

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
