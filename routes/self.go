package routes

import (
	"net"
	"net/netip"
	"os"
	"strings"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// checkLoops adds a fault for each upstream, of a route or of a fallback strategy, that is one of the proxy's own listen
// addresses: the proxy would reject its own request.
func (b *builder) checkLoops() {
	for _, s := range b.strategyServers {
		b.checkLoop(s.at, s.upstream)
	}
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) {
		if section, ok := b.source(path, n, "upstream"); ok {
			b.checkLoop(b.at(section+".upstream"), r.Upstream)
		}
	})
}

// checkLoop adds a fault if u is one of the proxy's own listen addresses.
func (b *builder) checkLoop(at strictyaml.Place, u Upstream) {
	if own := b.ownAddress(u); own != "" {
		b.faults.Add(at, "must not be the proxy's own listen address (%s), got %s", own, u.Redacted())
	}
}

// strategyServer is the server in the options of a fallback strategy.
type strategyServer struct {
	at       strictyaml.Place
	upstream Upstream
}

// addStrategyServer notes the server in a strategy's options for checkLoops.
func (b *builder) addStrategyServer(options any, strategy string, n *yaml.Node, at strictyaml.Place) {
	o, ok := options.(interface {
		Server() (key string, u Upstream)
	})
	if !ok {
		return
	}
	key, u := o.Server()
	if here := strictyaml.Locate(n, at, strictyaml.Join(strategy, key)); !b.faults.Has(here.Path) {
		b.strategyServers = append(b.strategyServers, strategyServer{here, u})
	}
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
