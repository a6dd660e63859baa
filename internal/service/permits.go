package service

import (
	"math"
	"net/http"
	"time"

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

// maxInFlight returns the limit on the route's requests in flight that is in force; 0 is no limit.
func (rt *Route) maxInFlight() int64 {
	if rt.Config.MaxInFlight.Auto {
		return rt.Service.learntLimit.Limit()
	}
	return int64(rt.Config.MaxInFlight.Value)
}

// ConcurrencyLimit returns the limit on a service's requests in flight; false if it has none.
func (m *Manager) ConcurrencyLimit(service string) (events.ConcurrencyLimit, bool) {
	snap := m.Acquire()
	defer snap.Release()
	if rt := snap.routesByService[service]; rt != nil {
		return rt.concurrencyLimit()
	}
	return events.ConcurrencyLimit{}, false
}

// ConcurrencyLimits returns the services' limits on requests in flight, by name. Services without one are missing.
func (m *Manager) ConcurrencyLimits() map[string]events.ConcurrencyLimit {
	snap := m.Acquire()
	defer snap.Release()
	all := make(map[string]events.ConcurrencyLimit, len(snap.routes))
	for _, rt := range snap.routes {
		if l, found := rt.concurrencyLimit(); found {
			all[rt.Service.Name] = l
		}
	}
	return all
}

// concurrencyLimit returns the limit on the route's requests in flight; false if it has none.
func (rt *Route) concurrencyLimit() (events.ConcurrencyLimit, bool) {
	n := rt.maxInFlight()
	return events.ConcurrencyLimit{Limit: n, InFlight: rt.Service.InFlight.InFlight(), Auto: rt.Config.MaxInFlight.Auto}, n > 0
}

// Permits are what a request has taken of the limits on requests in flight. The zero value has taken nothing. It is not safe for
// concurrent use.
type Permits struct {
	route, proxy *limit.Concurrency
	learnt       *limit.AIMD // the limit of route; nil: max_in_flight is not auto
}

// Acquire takes a permit of the route and one of the proxy, or neither. shed is the limit that has no permit left, "" if the
// permits were taken.
func (p *Permits) Acquire(rt *Route) (shed events.Shed) {
	if n := rt.maxInFlight(); n > 0 {
		if !rt.Service.InFlight.TryAcquire(n) {
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
	if p.route != nil && rt.Config.MaxInFlight.Auto {
		p.learnt = &rt.Service.learntLimit
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

// Learn reports whether the results of the request's attempts change the limit that has admitted it: max_in_flight is auto.
func (p *Permits) Learn() bool { return p.learnt != nil }

// Answered reports that the upstream has answered an attempt, which began at start, after took. status and retryAfter are those of the
// response. It is called only if Learn is true.
func (p *Permits) Answered(start time.Time, took time.Duration, status int, retryAfter string) {
	switch {
	case status == http.StatusServiceUnavailable && retryAfter != "":
		p.Overloaded(start)
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
	default:
		p.learnt.Answered(took, time.Now(), p.route.InFlight())
	}
}

// Overloaded reports that an attempt that began at start met an overload of the upstream. It is called only if Learn is true.
func (p *Permits) Overloaded(start time.Time) { p.learnt.Overloaded(start, time.Now()) }
