package service

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/events"
	"cbproxy/internal/tlsfiles"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// endpointKey is what an endpoint is made from: those with equal keys are interchangeable.
type endpointKey struct {
	connections routes.ConnectionKey
	path        string
	ping        time.Duration
}

// newEndpoints returns the endpoints of a route, without effect before balance.Set.Start. It reuses those of previous, which may be nil.
// An error means that a file that the route's tls names cannot be loaded.
func newEndpoints(service string, r *routes.Route, previous *balance.Set, publish func(events.Event), logger *slog.Logger) (*balance.Set, error) {
	newPool, err := poolMaker(r.Upstream.UsesTLS(), r.TLS, r.KeepalivePing, logger)
	if err != nil {
		return nil, err
	}
	c := balance.Config{
		Service: service, ResolveInterval: r.Balance.Resolve, Lookup: upstream.Lookup, NewPool: newPool, Publish: publish,
		Policy: balance.Policy{
			Name: r.Balance.Policy, FailMax: r.Balance.Eject.FailMax, Time: r.Balance.Eject.Time, MaxRatio: r.Balance.Eject.MaxRatio,
			HealthChecks: r.Breaker.Probe.Always,
		},
	}
	for _, e := range r.Upstream {
		c.Sources = append(c.Sources, balance.Source{URL: e.URL, Resolve: e.Resolve, Key: endpointKey{e.ConnectionKey(r.TLS), e.EscapedPath(), r.KeepalivePing}})
	}
	return balance.New(c, previous), nil
}

// poolMaker returns a function for balance.Config.NewPool. An error means that a file that tlsConfig names cannot be loaded; they are
// loaded only if usesTLS is set.
func poolMaker(usesTLS bool, tlsConfig routes.TLS, ping time.Duration, logger *slog.Logger) (func(*url.URL, netip.Addr) *upstream.Pool, error) {
	var current func() *tls.Config
	if usesTLS {
		files, err := tlsfiles.New(tlsfiles.Config(tlsConfig), logger)
		if err != nil {
			return nil, err
		}
		current = files.TLS
	}
	return func(u *url.URL, address netip.Addr) *upstream.Pool {
		return upstream.New(upstream.Config{URL: u, Address: address, PingInterval: ping, TLS: current})
	}, nil
}
