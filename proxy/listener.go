package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

// Listen listens on host:port or on unix:///path. A Unix socket that no process listens on
// any more is replaced.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	path, isUnix := strings.CutPrefix(address, "unix://")
	if !isUnix {
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return clientListener{l}, nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close() // it has told what it was asked for
		return nil, fmt.Errorf("listen on %s: another process listens there", address)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: remove the socket that was left: %w", address, err)
		}
	}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return clientListener{l}, nil
}
