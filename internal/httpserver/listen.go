package httpserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

// listener returns each accepted connection as a *Conn.
type listener struct{ net.Listener }

// Listen listens on host:port or on unix:///path. It replaces a Unix socket on which no process listens any more.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	path, isUnix := strings.CutPrefix(address, "unix://")
	if !isUnix {
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return listener{l}, nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // it was only opened to see whether a process listens
		return nil, fmt.Errorf("listen on %s: another process listens there", address)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: remove the stale socket: %w", address, err)
		}
	}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener{l}, nil
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c}, nil
}
