package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is a socket that this process has opened, or that was passed to it.
type Listener struct {
	net.Listener
	// Shared reports that the socket was passed to this process: the process that follows this one accepts its connections too.
	Shared bool

	defaultGID int // the group that the file of a Unix socket was created with
}

// SetDeadline makes Accept fail after t.
func (l *Listener) SetDeadline(t time.Time) error {
	limited, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return errors.ErrUnsupported
	}
	return limited.SetDeadline(t)
}

// HasPending reports whether there is a connection for Accept. It does not wait.
func (l *Listener) HasPending() bool {
	socket, ok := l.Listener.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	pending := false
	_ = raw.Control(func(fd uintptr) { // fails only on a closed listener
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // #nosec G115 -- a descriptor
		pending = err == nil && n > 0
	})
	return pending
}

// Open listens on a. It replaces a Unix socket on which no process listens. The file of a Unix socket never has more permissions
// than a.Mode, and is accessible for the group only when it belongs to it.
func Open(ctx context.Context, a Address) (*Listener, error) {
	l, err := open(ctx, a)
	if op, ok := err.(*net.OpError); ok { // not one that is wrapped
		err = op.Err // without the address again
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	return l, nil
}

func open(ctx context.Context, a Address) (*Listener, error) {
	if a.Network == "tcp" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.Target)
		return &Listener{Listener: l}, err
	}
	if err := removeStaleSocket(ctx, a.Target); err != nil {
		return nil, err
	}
	mode := a.mode()
	if a.GID >= 0 {
		mode &= 0o700 // until the file belongs to the group
	}
	socket, err := listenUnix(ctx, a.Target, mode)
	if err != nil {
		return nil, err
	}
	l := &Listener{Listener: socket}
	if l.defaultGID, err = groupOf(a.Target); err == nil && (a.Mode != NoMode || a.GID >= 0) {
		err = l.SetPermissions(a)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// mode returns the permissions of the file of a Unix socket.
func (a Address) mode() fs.FileMode {
	if a.Mode == NoMode {
		return 0o777 &^ umask
	}
	return a.Mode
}

// SetPermissions gives the file of a Unix socket the permissions of a, whose path is that of l. Meanwhile the file has only the
// permissions that it had before as well.
func (l *Listener) SetPermissions(a Address) error {
	info, err := os.Lstat(a.Target)
	if err != nil {
		return err
	}
	mode, gid := a.mode(), a.GID
	if gid < 0 {
		gid = l.defaultGID
	}
	if now, err := groupOf(a.Target); err != nil {
		return err
	} else if now != gid {
		if err := os.Chmod(a.Target, info.Mode().Perm()&mode&^0o070); err != nil {
			return fmt.Errorf("set the mode: %w", err)
		}
		if err := os.Lchown(a.Target, -1, gid); err != nil {
			return fmt.Errorf("set the group: %w", err)
		}
	}
	if err := os.Chmod(a.Target, mode); err != nil {
		return fmt.Errorf("set the mode: %w", err)
	}
	return nil
}

// groupOf returns the group of a file.
func groupOf(path string) (int, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return -1, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, errors.ErrUnsupported
	}
	return int(stat.Gid), nil
}

// removeStaleSocket removes the Unix socket at path if no process listens on it. It does nothing if path does not exist or is not
// a socket.
func removeStaleSocket(ctx context.Context, path string) error {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("another process listens there: %w", syscall.EADDRINUSE)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED): // a process may listen: its accept queue may be full, or another user may run it
		return fmt.Errorf("check for another process: %w", err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil // listening on path fails then
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale socket: %w", err)
	}
	return nil
}
