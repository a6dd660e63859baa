package http1

import (
	"io"
	"syscall"
	"unsafe"
)

// What follows is one system call, which does not wait: the descriptors are Go's, and so never block. Therefore Go's
// scheduler is not told of it, which otherwise gives the processor to another thread where the kernel takes its time, and
// wakes that for it.

func writeTo(fd uintptr, p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	return call(syscall.SYS_WRITE, fd, p, 0)
}

// readFrom returns io.EOF at the end. p must not be empty.
func readFrom(fd uintptr, p []byte) (n int, err error) {
	n, err = call(syscall.SYS_READ, fd, p, 0)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// peekAt is readFrom for one byte, which stays.
func peekAt(fd uintptr) error {
	var first [1]byte
	n, err := call(syscall.SYS_RECVFROM, fd, first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	if n == 0 && err == nil {
		return io.EOF
	}
	return err
}

func call(number, fd uintptr, p []byte, flags uintptr) (n int, err error) {
	for {
		r, _, errno := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0) // #nosec G103 -- as package syscall does
		switch errno {
		case 0:
			return int(r), nil // #nosec G115 -- at most len(p)
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}
