package service

import (
	"net/http"
	"strings"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
	"cbproxy/routes"
)

// updateKeys puts breaker.by into effect, and returns the breakers of keys; nil if there are none. Those of the same field keep their
// states. Another field begins anew, because its values mean something else.
func (s *Service) updateKeys(by *routes.By, policy breaker.Policy, publish func(events.Event)) *keyed.Breakers {
	header := http.CanonicalHeaderKey(by.Header)
	if s.keys != nil && s.keyHeader != header {
		s.keys.Close()
		s.keys = nil
	}
	if s.keyHeader = header; header == "" {
		return nil
	}
	if s.keys == nil {
		s.keys = keyed.New(s.Breaker, publish)
	}
	s.keys.SetPolicy(policy, by.Max)
	return s.keys
}

// keyOf returns the key of a request; "" if it has none. Several field lines are one value, as in RFC 9110, section 5.3.
func (rt *Route) keyOf(h http.Header) string {
	return strings.Join(h[rt.keyHeader], ", ")
}

// Allow asks the breaker for a client's request with the header h that began at a time, and with breaker.by also that of its key.
// uploaded is whether its body has been received completely. The results are those of breaker.Breaker.Allow.
func (rt *Route) Allow(h http.Header, began time.Time, uploaded bool) (breaker.Call, error) {
	switch b := rt.Service.Breaker; {
	case rt.keys != nil:
		return rt.keys.Allow(rt.keyOf(h), began, uploaded)
	case uploaded:
		return b.Allow()
	default:
		return b.AllowBeforeUpload()
	}
}

// IsOpen reports whether the breaker that Allow asks is open, or that of the key.
func (rt *Route) IsOpen(h http.Header) bool {
	return rt.Service.Breaker.State() == events.Open || rt.keys != nil && rt.keys.IsOpen(rt.keyOf(h))
}

// RetryAt returns when the open period ends of the breakers that Allow asks, the later one; zero if none is open, or has no end.
func (rt *Route) RetryAt(h http.Header) time.Time {
	at := rt.Service.Breaker.RetryAt()
	if rt.keys != nil {
		if ofKey := rt.keys.RetryAt(rt.keyOf(h)); ofKey.After(at) {
			return ofKey
		}
	}
	return at
}

// Keys returns the breakers of a service's keys, and the header field that has them; nil if requests are not judged by key, or if there
// is no such service.
func (m *Manager) Keys(service string) (keys *keyed.Breakers, header string) {
	snap := m.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		return rt.keys, rt.Config.Breaker.By.Header
	}
	return nil, ""
}

// KeyCounts returns the numbers of keys of the services whose requests are judged by key.
func (m *Manager) KeyCounts() map[string]events.KeyCounts {
	snap := m.Acquire()
	defer snap.Release()
	all := map[string]events.KeyCounts{}
	for _, rt := range snap.routes {
		if rt.keys != nil {
			all[rt.Service.Name] = rt.keys.Counts()
		}
	}
	return all
}
