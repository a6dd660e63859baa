package proxy

import (
	"math"
	"sync/atomic"

	"cbproxy/internal/events"
)

// limiter counts requests in flight against a limit. The zero limiter is ready, and safe
// for concurrent use.
type limiter struct{ inFlight atomic.Int64 }

// enter reports whether there is a place; whoever has got one must leave.
func (l *limiter) enter(limit int64) bool {
	if l.inFlight.Add(1) <= limit {
		return true
	}
	l.leave()
	return false
}

func (l *limiter) leave() { l.inFlight.Add(-1) }

// shares are the parts of the whole proxy's max_in_flight that requests may use, by their
// route's priority: what is left is reserved for the more important ones.
var shares = [...]float64{1: 1, 2: 0.8, 3: 0.6}

// placesFor returns how many of the whole proxy's places a route may use; 0 is no limit.
func placesFor(limit, priority int) int64 {
	return int64(math.Ceil(float64(limit) * shares[priority]))
}

// places is what an exchange occupies of the limits.
type places struct{ ofRoute, ofProxy bool }

// enter takes the exchange's places, all or none.
func (x *exchange) enter() bool {
	rt := x.route
	if limit := rt.config.MaxInFlight; limit > 0 {
		if !rt.service.bulkhead.enter(int64(limit)) {
			x.outcome.Shed = events.ShedByRoute
			return false
		}
		x.places.ofRoute = true
	}
	if rt.places > 0 {
		if !rt.load.enter(rt.places) {
			x.outcome.Shed = events.ShedByProxy
			return false
		}
		x.places.ofProxy = true
	}
	return true
}

// leave gives back what the exchange occupies.
func (x *exchange) leave() {
	if x.places.ofRoute {
		x.route.service.bulkhead.leave()
	}
	if x.places.ofProxy {
		x.route.load.leave()
	}
}
