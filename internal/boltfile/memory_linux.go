package boltfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// MemoryFile returns a file that exists only in memory and is freed when it is closed.
func MemoryFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("cbproxy-queue", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "memory"), nil
}
