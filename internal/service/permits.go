package service

import (
	"math"

	"cbproxy/internal/events"
	"cbproxy/internal/limit"
)

// inFlightShare is the share of the proxy's max_in_flight that a route may use, by its priority. The rest is reserved for routes
// with a higher priority.
var inFlightShare = [...]float64{1: 1, 2: 0.8, 3: 0.6}

// permitsFor returns how many permits of the proxy's max_in_flight a route with the given priority may use; 0 is no limit.
func permitsFor(maxInFlight, priority int) int64 {
	return int64(math.Ceil(float64(maxInFlight) * inFlightShare[priority]))
}

// Permits are what a request has taken of the limits on requests in flight. The zero value has taken nothing. It is not safe for
// concurrent use.
type Permits struct{ route, proxy *limit.Concurrency }

// Acquire takes a permit of the route and one of the proxy, or neither. shed is the limit that has no permit left, "" if the
// permits were taken.
func (p *Permits) Acquire(rt *Route) (shed events.Shed) {
	if n := rt.Config.MaxInFlight.Value; n > 0 {
		if !rt.Service.InFlight.TryAcquire(int64(n)) {
			return events.ShedByRoute
		}
		p.route = &rt.Service.InFlight
	}
	if n := rt.MaxProxyInFlight; n > 0 {
		if !rt.ProxyInFlight.TryAcquire(n) {
			p.Release()
			return events.ShedByProxy
		}
		p.proxy = rt.ProxyInFlight
	}
	return ""
}

// Release returns the permits that were taken.
func (p *Permits) Release() {
	if p.route != nil {
		p.route.Release()
	}
	if p.proxy != nil {
		p.proxy.Release()
	}
	*p = Permits{}
}
