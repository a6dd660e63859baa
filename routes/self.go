package routes

import (
	"strconv"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// checkLoops adds a fault for each upstream, of a route or of a fallback strategy, that is one of the proxy's own listen
// addresses: the proxy would reject its own request.
func (b *builder) checkLoops() {
	for _, s := range b.strategyServers {
		b.checkLoop(s.at, Endpoint{Upstream: s.upstream})
	}
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) {
		if section, ok := b.source(path, n, "upstream"); ok {
			b.checkEndpointLoops(b.at(section+".upstream"), r.Upstream)
		}
	})
}

// checkEndpointLoops is checkLoop for the upstream of a route. at is the place of its key.
func (b *builder) checkEndpointLoops(at strictyaml.Place, upstream Endpoints) {
	for i, e := range upstream {
		here := at
		if len(upstream) > 1 {
			here = b.at(at.Path + "[" + strconv.Itoa(i) + "]")
		}
		b.checkLoop(here, e)
	}
}

// checkLoop adds a fault if e is one of the proxy's own listen addresses.
func (b *builder) checkLoop(at strictyaml.Place, e Endpoint) {
	if own := b.ownAddress(e.Upstream); own != "" {
		b.faults.Add(at, "must not be the proxy's own listen address (%s), got %s", own, e)
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
