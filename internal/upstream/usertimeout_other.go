//go:build !linux

package upstream

import "net"

// LimitUnacknowledged does nothing on this system, so TCP detects an unreachable peer later.
func LimitUnacknowledged(net.Conn) {}
