package listen

import (
	"context"
	"io/fs"
	"net"
	"syscall"
)

// listenUnix listens on path. The socket's file has at most the permissions of mode, from the moment of its creation: bind
// creates it with the permissions of the socket itself, less the umask.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if controlErr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(mode.Perm())) }); controlErr != nil { // #nosec G115 -- a descriptor
			return controlErr
		}
		return err
	}}
	return config.Listen(ctx, "unix", path)
}
