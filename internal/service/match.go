package service

import "strings"

// Match is the route of a request.
type Match struct {
	Route       *Route // nil: none
	covered     int    // number of bytes of the path that the route's prefix covers
	ownListener bool   // the route was selected by the service's own listener
}

// Match returns the route of a request with a path. listenerKey is that of the service's own listener to which the request was sent, or
// "": then its prefix selects the route.
func (s *Snapshot) Match(path, listenerKey string) Match {
	if listenerKey != "" {
		if !strings.HasPrefix(path, "/") { // OPTIONS *
			return Match{}
		}
		return Match{Route: s.listeners[listenerKey], ownListener: true}
	}
	route, covered, _ := s.table.Match(path)
	return Match{Route: route, covered: covered}
}

// Prefix returns the prefix that selected the route of a request with a path, as it is configured.
func (m Match) Prefix(path string) string {
	if m.ownListener {
		return "/"
	}
	return m.Route.prefix(path[:m.covered])
}

// Stripped returns how many bytes at the start of the path are not sent to the upstream.
func (m Match) Stripped() int {
	if m.Route.Config.StripPrefix {
		return m.covered
	}
	return 0
}
