package service

import (
	"sync/atomic"

	"cbproxy/internal/prefixtable"
	"cbproxy/routes"
)

// Snapshot is the routes of one configuration. It is immutable, except for its number of references.
type Snapshot struct {
	table           *prefixtable.Table[*Route]
	listeners       map[string]*Route // by routes.Route.ListenerKey; those that a reload has closed as well
	routes          []*Route
	routesByService map[string]*Route
	Limits          routes.Limits

	refs atomic.Int64 // the requests that use it, and 1 while it is the current snapshot
}

// newSnapshot returns the snapshot that follows previous, which may be nil.
func newSnapshot(built []*Route, limits routes.Limits, previous *Snapshot) *Snapshot {
	s := &Snapshot{
		table: prefixtable.New[*Route](), routes: built, routesByService: make(map[string]*Route, len(built)), listeners: map[string]*Route{}, Limits: limits,
	}
	for _, r := range built {
		s.routesByService[r.Service.Name] = r
		for _, prefix := range r.Config.Prefix {
			s.table.Add(prefix, r)
		}
		if key := r.Config.ListenerKey(r.Service.Name); key != "" {
			s.listeners[key] = r
		}
	}
	s.keepClosedListeners(previous)
	s.refs.Store(1)
	return s
}

// keepClosedListeners adds the listeners that only previous has: requests on their connections, which are still open, belong to
// the service that the listener had, if it still exists.
func (s *Snapshot) keepClosedListeners(previous *Snapshot) {
	if previous == nil {
		return
	}
	for key, r := range previous.listeners {
		if current := s.routesByService[r.Service.Name]; current != nil && s.listeners[key] == nil {
			s.listeners[key] = current
		}
	}
}

// Acquire returns the current snapshot, which stays valid until its Release method is called.
func (m *Manager) Acquire() *Snapshot {
	for {
		if snap := m.snapshot.Load(); snap.acquire() {
			return snap
		}
	}
}

// acquire adds a reference. It returns false if the last one has been released already: the snapshot has been replaced and is
// closed, and would be closed once more.
func (s *Snapshot) acquire() bool {
	for n := s.refs.Load(); n > 0; n = s.refs.Load() {
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// Release releases the reference that Acquire has added. The last one closes the connections and the fallback chains that only
// this snapshot uses. It is called once for each Acquire.
func (s *Snapshot) Release() {
	if s.refs.Add(-1) == 0 {
		for _, r := range s.routes {
			r.Endpoints.Close()
			if r.Chain != nil {
				r.Chain.Close()
			}
		}
	}
}

// retire releases the reference of the current snapshot, after another one has replaced it.
func (s *Snapshot) retire() {
	for _, r := range s.routes {
		r.Endpoints.StopLookups()
	}
	s.Release()
}
