//go:build !linux

package listen

import (
	"context"
	"io/fs"
	"net"
	"sync"
	"syscall"
)

var umaskMu sync.Mutex // held while the umask is changed

// listenUnix listens on path. The socket's file has at most the permissions of mode, from the moment of its creation. While bind
// creates it, the process has a stricter umask. Files that are created at the same time keep the permissions of their owner.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	umaskMu.Lock()
	defer umaskMu.Unlock()
	before := syscall.Umask(int(umask | 0o077))
	defer syscall.Umask(before)
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}
