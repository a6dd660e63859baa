package balance

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

// MaxEndpoints is the largest number of endpoints of a set. If DNS returns more addresses, each process uses a part of them.
const MaxEndpoints = 64

// Source is one entry of the configuration.
type Source struct {
	// URL is that of the endpoint. If Resolve is set, each address of its host is an endpoint.
	URL     *url.URL
	Resolve bool
	// Key identifies what connections to the source are made from: sources with equal keys are interchangeable.
	Key any
}

// Config configures a Set. All fields are required, except ResolveInterval if no source is resolved.
type Config struct {
	Service string
	// Sources has at least one source.
	Sources []Source
	Policy  Policy
	// ResolveInterval is the time between two lookups of names.
	ResolveInterval time.Duration
	// Lookup returns the addresses of a host. Its error is classified by upstream.Classify.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// NewPool returns a pool of connections to u. If address is valid, they are to it and not to the host of u.
	NewPool func(u *url.URL, address netip.Addr) *upstream.Pool
	// Publish receives events.EndpointChanged and events.EndpointsChanged. It is called with a lock held, must return at once and must
	// not call the Set.
	Publish func(events.Event)
}

// Set is the endpoints of one configuration of a service. It is safe for concurrent use.
type Set struct {
	config   Config
	choose   func(s *Set, list []*Endpoint, usable indexes) *Endpoint
	resolver *resolver // nil: no source is resolved
	group    *group

	list    atomic.Pointer[[]*Endpoint] // replaced with group.mu held
	trialAt atomic.Int64                // when the next trial is due, in nanoseconds since 1970; written with group.mu held
	turn    atomic.Uint64               // of roundRobin
	careful atomic.Bool                 // see preferHealthy
	running bool                        // between Start and Close; guarded by group.mu
}

// group is shared by the sets of consecutive configurations of a service.
type group struct {
	mu sync.Mutex // guards current, the ejections of all endpoints, and the lists of the sets
	// current is the set that was started last. It alone ejects endpoints and ends ejections: requests that use an earlier set may report
	// the outcomes of their attempts after it has been replaced.
	current *Set
	// afterFailedTrial makes the next request use an endpoint that is not ejected, even if a trial is due again. A half-open breaker sends
	// one request at a time: it could be the trial of the same dead endpoint for ever, if ejections are short.
	afterFailedTrial atomic.Bool
}

// New returns the set of a configuration that follows the one of previous, which may be nil. Endpoints that both have stay the same, as
// do the addresses that are known of a name. Neither set is changed before Start, so that the new one can be dropped.
func New(c Config, previous *Set) *Set {
	s := &Set{config: c, choose: policies[c.Policy.Name], group: new(group)}
	known := map[any][]netip.Addr{}
	var old []*Endpoint
	if previous != nil {
		s.group, old = previous.group, *previous.list.Load()
		if previous.resolver != nil {
			known = previous.resolver.knownAddresses()
		}
	}
	if slices.ContainsFunc(c.Sources, func(source Source) bool { return source.Resolve }) {
		s.resolver = newResolver(s, known)
	}
	list := s.endpoints(known, old)
	s.list.Store(&list)
	return s
}

// Start begins to look up names, and ejects no more endpoints than the policy allows. It is called once, before the first Pick.
func (s *Set) Start() {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.running, s.group.current = true, s
	for _, e := range *s.list.Load() {
		e.acquire()
	}
	s.limitEjections()
	if s.resolver != nil {
		s.resolver.start()
	}
}

// StopLookups keeps the endpoints as they are from now on: another configuration is in effect.
func (s *Set) StopLookups() {
	if s.resolver != nil {
		s.resolver.cancel()
	}
}

// Close ends the lookups, and closes the connections to endpoints that no other set has. It is called once, after the last Pick. A Set
// that has not been started need not be closed.
func (s *Set) Close() {
	s.StopLookups()
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	s.running = false
	for _, e := range *s.list.Load() {
		e.release()
	}
}

// errNoAddress is the error of a set whose names have no address, although their lookup has not failed.
var errNoAddress = errors.New("no address of the upstream is known")

// Pick returns a lease on an endpoint for the next attempt of a request. tried are the endpoints of its earlier attempts, the latest one
// last: another one is chosen if possible. If no address of a name is known yet, Pick waits for the first lookup, or until ctx is done;
// the error is then that of the lookup or of ctx.
func (s *Set) Pick(ctx context.Context, tried ...*Endpoint) (Lease, error) {
	list := *s.list.Load()
	if len(list) == 0 {
		if err := s.resolver.wait(ctx); err != nil {
			return Lease{}, err
		}
		if list = *s.list.Load(); len(list) == 0 {
			return Lease{}, upstream.NewConnectError(errNoAddress)
		}
	}
	if len(list) == 1 {
		return s.lease(list[0], false), nil
	}
	if len(tried) == 0 {
		if e := s.dueForTrial(list); e != nil {
			return s.lease(e, true), nil
		}
	}
	usable := s.preferHealthy(list, usableOf(list, tried))
	e := list[usable.at(0)]
	if usable.count() > 1 {
		e = s.choose(s, list, usable)
	}
	if e.failures.Load() > 0 {
		s.setCareful(true)
	}
	return s.lease(e, false), nil
}

// preferHealthy returns usable without the endpoints whose latest attempts have failed, if the latest attempt of the service has failed or
// went to one of those, and if others are left. So an endpoint that may be dead gets its next request after a success elsewhere: when
// several endpoints die at once, they are ejected before the service fails so often in a row that its breaker opens.
func (s *Set) preferHealthy(list []*Endpoint, usable indexes) indexes {
	if !s.careful.Load() {
		return usable
	}
	var healthy indexes
	for i, e := range list {
		if e.failures.Load() == 0 {
			healthy.add(i)
		}
	}
	if healthy &= usable; healthy.count() > 0 {
		return healthy
	}
	return usable
}

// setCareful writes only if that changes something: most attempts succeed.
func (s *Set) setCareful(careful bool) {
	if s.careful.Load() != careful {
		s.careful.Store(careful)
	}
}

// usableOf returns the endpoints that are not ejected and not in tried. If there is none, it returns those but the latest one in tried,
// and otherwise that one; at least one of the list.
//
// The next attempt of a request goes to an endpoint whose latest request has not failed, if there is one: otherwise it could fail in the
// time until all endpoints that are dead are ejected.
func usableOf(list, tried []*Endpoint) indexes {
	var usable, sound, in, all indexes
	for i, e := range list {
		all.add(i)
		if e.ejected.Load() {
			continue
		}
		in.add(i)
		if slices.Contains(tried, e) {
			continue
		}
		usable.add(i)
		if e.failures.Load() == 0 {
			sound.add(i)
		}
	}
	switch {
	case len(tried) > 0 && sound.count() > 0:
		return sound
	case usable.count() > 0:
		return usable
	case len(tried) > 1:
		return usableOf(list, tried[len(tried)-1:])
	case in.count() > 0:
		return in
	}
	return all // the list is about to be changed
}

func (s *Set) lease(e *Endpoint, trial bool) Lease {
	e.inFlight.Add(1)
	return Lease{Endpoint: e, set: s, trial: trial}
}

// Endpoints returns the current endpoints, which the caller must not modify.
func (s *Set) Endpoints() []*Endpoint { return *s.list.Load() }

// HasOthers reports whether a request that was sent to an endpoint could be sent to another one: there are several endpoints, or DNS can
// return several.
func (s *Set) HasOthers() bool { return s.resolver != nil || len(*s.list.Load()) > 1 }

// MayMultiplex reports whether a new request may share an HTTP/2 connection with other requests.
func (s *Set) MayMultiplex() bool {
	if len(*s.list.Load()) == 0 {
		return true // it is not known yet
	}
	return slices.ContainsFunc(*s.list.Load(), func(e *Endpoint) bool { return e.Pool.MayMultiplex() })
}

// Status returns the status of each endpoint.
func (s *Set) Status() []events.EndpointStatus {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	list := *s.list.Load()
	all := make([]events.EndpointStatus, len(list))
	for i, e := range list {
		all[i] = events.EndpointStatus{
			URL: e.URL, State: events.EndpointIn, InFlight: e.inFlight.Load(), FailCounter: int(e.failures.Load()),
			Ejections: e.total, LastFailure: e.lastFailure.Load(),
		}
		if e.ejected.Load() {
			all[i].State, all[i].Until = events.EndpointEjected, e.until
		}
	}
	return all
}
