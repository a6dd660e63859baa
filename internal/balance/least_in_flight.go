package balance

import (
	"math"
	"math/rand/v2"
)

// leastInFlight chooses two endpoints at random and returns the one with fewer attempts in flight. Two are enough to keep the load even,
// and requests at the same time do not all choose the same endpoint, such as one that has just come back (Mitzenmacher, "The Power of Two
// Choices in Randomized Load Balancing", 2001). An endpoint that has far more attempts in flight than the least of all is not among the
// two: otherwise those that have stopped answering, if they are several, would get a share of the requests until they are ejected.
func leastInFlight(_ *Set, list []*Endpoint, usable indexes) *Endpoint {
	candidates := withoutFar(list, usable)
	n := candidates.count()
	if n == 1 {
		return list[candidates.at(0)]
	}
	i, j := rand.IntN(n), rand.IntN(n-1) // #nosec G404 -- spreads requests; no secret
	if j >= i {
		j++
	}
	a, b := list[candidates.at(i)], list[candidates.at(j)]
	if b.inFlight.Load() < a.inFlight.Load() {
		return b
	}
	return a
}

// withoutFar returns usable without the endpoints that have more than twice as many attempts in flight as the least of all, and four more.
func withoutFar(list []*Endpoint, usable indexes) (candidates indexes) {
	fewest := int64(math.MaxInt64)
	for i, e := range list {
		if usable.has(i) {
			fewest = min(fewest, e.inFlight.Load())
		}
	}
	for i, e := range list {
		if usable.has(i) && e.inFlight.Load() <= 2*fewest+4 {
			candidates.add(i)
		}
	}
	if candidates.count() == 0 { // the numbers have grown meanwhile
		return usable
	}
	return candidates
}
