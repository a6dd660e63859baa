package listen

import (
	"io/fs"
	"syscall"
)

// umask is the process's. It can only be read by setting it, which is done before other goroutines create files.
var umask = func() fs.FileMode {
	mask := syscall.Umask(0o077)
	syscall.Umask(mask)
	return fs.FileMode(mask).Perm()
}()
