package balance

import (
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

const (
	lookupTimeout = 10 * time.Second
	// minResolveInterval is the shortest time between two lookups because connections have failed, unless the interval is shorter.
	minResolveInterval = time.Second
)

// resolver looks up the names of a set. Its methods but run are safe for concurrent use.
type resolver struct {
	set    *Set
	signal chan struct{} // has a capacity of 1; a value means that a connection has failed
	cancel context.CancelFunc
	first  chan struct{} // closed after the first lookup

	mu        sync.Mutex
	addresses map[any][]netip.Addr // that are known, by Source.Key
	err       error                // of the latest lookups; nil: all have succeeded
}

func newResolver(s *Set, known map[any][]netip.Addr) *resolver {
	return &resolver{set: s, signal: make(chan struct{}, 1), first: make(chan struct{}), addresses: maps.Clone(known)}
}

// knownAddresses returns a copy of the addresses by Source.Key.
func (r *resolver) knownAddresses() map[any][]netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.addresses)
}

func (r *resolver) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go r.run(ctx)
}

// wait waits for the first lookup and returns its error.
func (r *resolver) wait(ctx context.Context) error {
	select {
	case <-r.first:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.set.resolveSoon()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// resolveSoon makes names be looked up soon, because a connection has failed: the addresses may have changed.
func (s *Set) resolveSoon() {
	if s.resolver == nil {
		return
	}
	select {
	case s.resolver.signal <- struct{}{}:
	default: // a signal is pending already
	}
}

// run looks up the names until ctx is done. Instances that were started together do not look up at the same time.
func (r *resolver) run(ctx context.Context) {
	interval := r.set.config.ResolveInterval
	for first := true; ; first = false {
		if first {
			r.lookup(context.WithoutCancel(ctx)) // requests may wait for it, although another configuration is in effect
			close(r.first)                       // whatever the result
		} else {
			r.lookup(ctx)
		}
		soon := time.NewTimer(min(minResolveInterval, interval))
		select {
		case <-ctx.Done():
			return
		case <-soon.C:
		}
		rest := interval - minResolveInterval
		rest -= time.Duration(rand.Float64() * 0.2 * float64(max(rest, 0))) // #nosec G404 -- spreads lookups; no secret
		regular := time.NewTimer(max(rest, 0))
		select {
		case <-ctx.Done():
			return
		case <-regular.C:
		case <-r.signal:
		}
	}
}

// lookup looks up all names and changes the set's list. The addresses of a name whose lookup fails are kept.
func (r *resolver) lookup(ctx context.Context) {
	select {
	case <-r.signal: // what it asks for is done now
	default:
	}
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	known := r.knownAddresses()
	var failed error
	for _, source := range r.set.config.Sources {
		if !source.Resolve {
			continue
		}
		addresses, err := r.set.config.Lookup(limited, source.URL.Hostname())
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		known[source.Key] = canonical(addresses)
	}
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	before := r.err
	r.addresses, r.err = known, failed
	r.mu.Unlock()
	r.set.update(known, failed, (before == nil) != (failed == nil))
}

// canonical returns addresses sorted and without duplicates.
func canonical(addresses []netip.Addr) []netip.Addr {
	all := make([]netip.Addr, len(addresses))
	for i, a := range addresses {
		all[i] = a.Unmap()
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// update replaces the list of the set. failed is the error of the lookups, which is published if changed is set.
func (s *Set) update(known map[any][]netip.Addr, failed error, changed bool) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	if !s.running {
		return
	}
	old := *s.list.Load()
	list := s.endpoints(known, old)
	e := events.EndpointsChanged{Time: time.Now(), Service: s.config.Service}
	for _, added := range list {
		if !slices.Contains(old, added) {
			added.acquire()
			e.Added = append(e.Added, added.URL)
		}
	}
	s.list.Store(&list)
	if s == s.group.current {
		s.limitEjections()
	}
	for _, removed := range old {
		if !slices.Contains(list, removed) {
			removed.release()
			e.Removed = append(e.Removed, removed.URL)
		}
	}
	if failed != nil {
		e.Error = failed.Error()
	}
	if changed || len(e.Added)+len(e.Removed) > 0 {
		s.config.Publish(e)
	}
}

// endpoints returns the endpoints of all sources in their order, of which those in old are reused.
func (s *Set) endpoints(known map[any][]netip.Addr, old []*Endpoint) []*Endpoint {
	known = limitAddresses(known, s.config.Sources)
	var list []*Endpoint
	add := func(source *Source, address netip.Addr) {
		k := key{source.Key, address}
		if i := slices.IndexFunc(old, func(e *Endpoint) bool { return e.key == k }); i >= 0 {
			list = append(list, old[i])
			return
		}
		list = append(list, &Endpoint{
			URL: endpointURL(source.URL, address), Target: upstream.TargetOf(source.URL), Pool: s.config.NewPool(source.URL, address), key: k,
		})
	}
	for i := range s.config.Sources {
		source := &s.config.Sources[i]
		if !source.Resolve {
			add(source, netip.Addr{})
			continue
		}
		for _, address := range known[source.Key] {
			add(source, address)
		}
	}
	return list
}

// endpointURL returns u with the address as its host, if that is valid.
func endpointURL(u *url.URL, address netip.Addr) string {
	if !address.IsValid() {
		return u.Redacted()
	}
	shown := *u
	shown.Host = address.String()
	switch {
	case u.Port() != "":
		shown.Host = net.JoinHostPort(address.String(), u.Port())
	case address.Is6():
		shown.Host = "[" + address.String() + "]"
	}
	return shown.Redacted()
}

// addressSeed makes processes use different parts of many addresses.
var addressSeed = maphash.MakeSeed()

// limitAddresses returns known without the addresses for which MaxEndpoints leaves no room. Which ones stay depends on each address
// alone (rendezvous hashing), so that a change of one address changes at most one other.
func limitAddresses(known map[any][]netip.Addr, sources []Source) map[any][]netip.Addr {
	room, total := MaxEndpoints, 0
	var hashes []uint64
	for _, source := range sources {
		if !source.Resolve {
			room--
			continue
		}
		total += len(known[source.Key])
		for _, a := range known[source.Key] {
			hashes = append(hashes, addressHash(source.Key, a))
		}
	}
	if total <= room {
		return known
	}
	slices.Sort(hashes)
	limited := make(map[any][]netip.Addr, len(known))
	for k, addresses := range known {
		for _, a := range addresses {
			if room > 0 && addressHash(k, a) <= hashes[room-1] {
				limited[k] = append(limited[k], a)
			}
		}
	}
	return limited
}

func addressHash(source any, a netip.Addr) uint64 {
	return maphash.Comparable(addressSeed, key{source, a})
}
