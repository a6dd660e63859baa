//go:build !linux

package upstream

import "net"

// LimitUnacknowledged does nothing here: TCP itself finds out, later, that the peer is gone.
func LimitUnacknowledged(net.Conn) {}
