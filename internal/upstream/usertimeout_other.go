//go:build !linux

package upstream

import "net"

// LimitUnacknowledged does nothing on this system: TCP detects later that the peer is unreachable.
func LimitUnacknowledged(net.Conn) {}
