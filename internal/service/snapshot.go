package service

import (
	"sync/atomic"

	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// Snapshot is one complete configuration. Only its count of users is modified.
type Snapshot struct {
	Table           *routes.Table[*Route]
	routes          []*Route
	routesByService map[string]*Route
	Limits          routes.Limits

	users       atomic.Int64     // requests that use it, and one while it is in effect
	unusedPools []*upstream.Pool // pools that the next snapshot does not use; set before the last user is released
}

func newSnapshot(built []*Route, limits routes.Limits) *Snapshot {
	s := &Snapshot{Table: routes.NewTable[*Route](), routes: built, routesByService: make(map[string]*Route, len(built)), Limits: limits}
	for _, r := range built {
		s.routesByService[r.Service.Name] = r
		for _, prefix := range r.Config.Prefix {
			s.Table.Add(prefix, r)
		}
	}
	s.users.Store(1)
	return s
}

// Acquire returns the current snapshot, which stays valid until its Release method is called.
func (s *Manager) Acquire() *Snapshot {
	for {
		if snap := s.snapshot.Load(); snap.acquire() {
			return snap
		}
	}
}

// acquire adds a user. It reports false for a snapshot whose last user has released it: that one has been replaced and
// must not be used again, or a second last user would close it again.
func (s *Snapshot) acquire() bool {
	for n := s.users.Load(); n > 0; n = s.users.Load() {
		if s.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// Release ends the use of a snapshot. The last one closes what only that snapshot used.
func (s *Snapshot) Release() {
	if s.users.Add(-1) == 0 {
		for _, p := range s.unusedPools {
			p.Close()
		}
		for _, r := range s.routes {
			if r.Chain != nil {
				r.Chain.Close()
			}
		}
	}
}

// retire releases a snapshot that next has replaced. The connections that only it used are closed after its last request.
func (s *Snapshot) retire(next []*Route) {
	used := make(map[*upstream.Pool]bool, len(next))
	for _, r := range next {
		used[r.Pool] = true
	}
	for _, r := range s.routes {
		if !used[r.Pool] {
			s.unusedPools = append(s.unusedPools, r.Pool)
		}
	}
	s.Release()
}
