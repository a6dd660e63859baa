package http1

import (
	"io"
	"syscall"
	"unsafe"
)

// The functions in this file make a single system call each. It never blocks, because Go's descriptors are non-blocking.
// They therefore use RawSyscall6, which does not notify the scheduler. Otherwise the scheduler might wake up another thread and give
// it the processor during a longer call.

// writeTo writes as much of p as fits into the send buffer.
func writeTo(fd uintptr, p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	return call(syscall.SYS_WRITE, fd, p, 0)
}

// readFrom reads what has arrived. It returns io.EOF at the end of the stream. p must not be empty.
func readFrom(fd uintptr, p []byte) (n int, err error) {
	n, err = call(syscall.SYS_READ, fd, p, 0)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// peekAt returns the error that readFrom would return, without consuming anything.
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
		r, _, errno := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0) // #nosec G103 -- same as in package syscall
		switch errno {
		case 0:
			return int(r), nil // #nosec G115 -- at most len(p)
		case syscall.EINTR:
			continue
		}
		return 0, errno
	}
}
