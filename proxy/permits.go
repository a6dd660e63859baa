package proxy

import (
	"math"

	"cbproxy/internal/events"
	"cbproxy/internal/limit"
)

// shares are the parts of the proxy's max_in_flight that requests may use, by their route's priority: the rest is reserved for
// routes with a higher priority.
var shares = [...]float64{1: 1, 2: 0.8, 3: 0.6}

// permitsFor returns how many permits of the proxy's max_in_flight a route with the given priority may use; 0 is no limit.
func permitsFor(maxInFlight, priority int) int64 {
	return int64(math.Ceil(float64(maxInFlight) * shares[priority]))
}

// permits are what a request has taken of the limits on requests in flight.
type permits struct{ route, proxy *limit.Concurrency }

// acquire takes a permit of the route and one of the proxy, or neither. shed is the limit that has no permit left, "" if the
// permits were taken.
func (p *permits) acquire(rt *route) (shed events.Shed) {
	if n := rt.config.MaxInFlight; n > 0 {
		if !rt.service.inFlight.TryAcquire(int64(n)) {
			return events.ShedByRoute
		}
		p.route = &rt.service.inFlight
	}
	if n := rt.maxOfProxy; n > 0 {
		if !rt.proxyInFlight.TryAcquire(n) {
			p.release()
			return events.ShedByProxy
		}
		p.proxy = rt.proxyInFlight
	}
	return ""
}

// release returns the permits that were taken.
func (p *permits) release() {
	if p.route != nil {
		p.route.Release()
	}
	if p.proxy != nil {
		p.proxy.Release()
	}
	*p = permits{}
}
