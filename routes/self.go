package routes

import (
	"net"
	"net/netip"
	"os"
	"strings"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// checkLoops adds a fault for each route whose upstream is the proxy's own listen address, because requests
// would loop.
func (b *builder) checkLoops() {
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) {
		if section, ok := b.source(path, n, "upstream"); ok && b.isSelf(r.Upstream) {
			b.faults.Add(b.at(section+".upstream"), "must not be the proxy's own listen address (%s), got %s", b.config.Listen, r.Upstream.Redacted())
		}
	})
}

// checkOptionsLoop is checkLoops for the server in a strategy's options.
func (b *builder) checkOptionsLoop(options any, strategy string, n *yaml.Node, at strictyaml.Place) {
	o, ok := options.(interface {
		Server() (key string, u Upstream)
	})
	if !ok {
		return
	}
	key, u := o.Server()
	if here := strictyaml.Locate(n, at, strictyaml.Join(strategy, key)); !b.faults.Has(here.Path) && b.isSelf(u) {
		b.faults.Add(here, "must not be the proxy's own listen address (%s), got %s", b.config.Listen, u.Redacted())
	}
}

func (b *builder) isSelf(u Upstream) bool {
	return u.URL != nil && !b.faults.Has("listen") && isListenAddress(u, b.config.Listen)
}

// isListenAddress reports whether u is the listen address in any spelling. It does not resolve names: a
// loop through another name is detected at the first request.
func isListenAddress(u Upstream, listen string) bool {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || strings.HasPrefix(listen, "unix://") {
		return false
	}
	upstreamPort := u.Port()
	if upstreamPort == "" {
		upstreamPort = map[string]string{"http": "80", "h2c": "80", "https": "443"}[u.Scheme]
	}
	if port == "0" || port != upstreamPort {
		return false
	}
	own, asked := canonicalHost(host), canonicalHost(u.Hostname())
	if own == asked {
		return true
	}
	listening, asking := hostAddresses(own), hostAddresses(asked)
	for _, l := range listening {
		for _, a := range asking {
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
