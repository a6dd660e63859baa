package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile returns a file that is nowhere but in memory and goes when it is closed.
func memoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("cbproxy-queue", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "memory"), nil
}
