package listen

import (
	"net"
	"net/netip"
	"os"
	"strings"
)

// Accepts reports whether a listener on the address accepts connections to host and port, in any spelling of the host. Names are not
// resolved, except localhost and the name of this machine: of others it is only known that they are equal. The result is false for a Unix
// socket and for a port that the system chooses.
func (a Address) Accepts(host, port string) bool {
	own, ownPort, err := net.SplitHostPort(a.Target)
	return err == nil && a.Network == "tcp" && ownPort != "0" && ownPort == port && isSameHost(own, host)
}

// isSameHost reports whether a listener on the host own accepts connections to the host asked.
func isSameHost(own, asked string) bool {
	own, asked = canonicalHost(own), canonicalHost(asked)
	if own == asked {
		return true
	}
	for _, l := range hostAddresses(own) {
		for _, a := range hostAddresses(asked) {
			if l == a || l.IsUnspecified() && isOwn(a) && (l.Is6() || a.Is4()) || a.IsUnspecified() && l.IsLoopback() {
				return true
			}
		}
	}
	return false
}

// canonicalHost returns the one spelling of a host's name or address.
func canonicalHost(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return a.WithZone("").Unmap().String()
	}
	if strings.HasSuffix(host, ".localhost") {
		return "localhost"
	}
	return host
}

// hostAddresses returns the addresses that a host is known to have: an empty one is every address.
func hostAddresses(host string) []netip.Addr {
	a, err := netip.ParseAddr(host)
	name, _ := os.Hostname() // without one there is nothing to compare
	switch {
	case err == nil:
		return []netip.Addr{a}
	case host == "":
		return []netip.Addr{netip.IPv6Unspecified()}
	case host == "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	case host == canonicalHost(name):
		return interfaceAddresses()
	}
	return nil
}

// isOwn reports whether a is an address of this machine.
func isOwn(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	for _, own := range interfaceAddresses() {
		if own == a {
			return true
		}
	}
	return false
}

func interfaceAddresses() (own []netip.Addr) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil // what can't be known is noticed with the first request
	}
	for _, address := range addresses {
		if n, ok := address.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok && !a.IsLoopback() {
				own = append(own, a.Unmap())
			}
		}
	}
	return own
}
