package balance

import "math/rand/v2"

// leastInFlight chooses two endpoints at random and returns the one with fewer attempts in flight. Two are enough to keep the load even,
// and the choice of one request is not that of all requests at the same time, as it would be if the least of all were taken
// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
func leastInFlight(_ *Set, list []*Endpoint, usable indexes) *Endpoint {
	n := usable.count()
	i, j := rand.IntN(n), rand.IntN(n-1) // #nosec G404 -- spreads requests; no secret
	if j >= i {
		j++
	}
	a, b := list[usable.at(i)], list[usable.at(j)]
	if b.inFlight.Load() < a.inFlight.Load() {
		return b
	}
	return a
}
