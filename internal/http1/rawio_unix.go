//go:build unix && !linux

package http1

import (
	"io"
	"syscall"
)

// The functions in this file make a single system call each. It never blocks, because Go's descriptors are non-blocking.

// writeTo writes as much of p as fits into the send buffer.
func writeTo(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), p) // #nosec G115 -- fd is a descriptor
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// readFrom reads what has arrived. It returns io.EOF at the end of the stream. p must not be empty.
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

// peekAt returns the error that readFrom would return, without consuming anything.
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
