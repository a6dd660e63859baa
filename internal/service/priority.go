package service

import "math"

// inFlightShare is the share of the proxy's max_in_flight that a route may use, by its priority. The rest is reserved for routes
// with a higher priority.
var inFlightShare = [...]float64{1: 1, 2: 0.8, 3: 0.6}

// permitsFor returns how many permits of the proxy's max_in_flight a route with the given priority may use; 0 is no limit.
func permitsFor(maxInFlight, priority int) int64 {
	return int64(math.Ceil(float64(maxInFlight) * inFlightShare[priority]))
}
