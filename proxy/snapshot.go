package proxy

import (
	"sync/atomic"

	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// snapshot is one complete configuration. Only its count of users is modified.
type snapshot struct {
	table    *routes.Table[*route]
	routes   []*route
	services map[string]*route
	limits   routes.Limits

	users   atomic.Int64     // requests that use it, and one while it is in effect
	orphans []*upstream.Pool // pools that the next snapshot does not use; set before the last user is released
}

func newSnapshot(built []*route, limits routes.Limits) *snapshot {
	s := &snapshot{table: routes.NewTable[*route](), routes: built, services: make(map[string]*route, len(built)), limits: limits}
	for _, r := range built {
		s.services[r.service.name] = r
		for _, prefix := range r.config.Prefix {
			s.table.Add(prefix, r)
		}
	}
	s.users.Store(1)
	return s
}

// acquire returns the current snapshot, which stays usable until release.
func (s *Server) acquire() *snapshot {
	for {
		snap := s.snapshot.Load()
		snap.users.Add(1)
		if s.snapshot.Load() == snap {
			return snap
		}
		snap.release()
	}
}

func (s *snapshot) release() {
	if s.users.Add(-1) == 0 {
		for _, p := range s.orphans {
			p.Close()
		}
		for _, r := range s.routes {
			if r.chain != nil {
				r.chain.Close()
			}
		}
	}
}

// retire releases a snapshot that next has replaced. The connections that only it used are closed after its last request.
func (s *snapshot) retire(next []*route) {
	used := make(map[*upstream.Pool]bool, len(next))
	for _, r := range next {
		used[r.pool] = true
	}
	for _, r := range s.routes {
		if !used[r.pool] {
			s.orphans = append(s.orphans, r.pool)
		}
	}
	s.release()
}
