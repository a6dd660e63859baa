//go:build !linux

package upstream

import "net"

// setTCPUserTimeout does nothing on this system, so TCP detects an unreachable peer later.
func setTCPUserTimeout(net.Conn) {}
