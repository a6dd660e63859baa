package balance

import (
	"math"
	"math/rand/v2"
)

// leastInFlight returns the endpoint with the fewest attempts in flight; of several, one at random. All are compared, and not only two that
// are chosen at random: an endpoint that has stopped answering then gets no more requests than the others have in flight. Each attempt
// counts from its choice on, so that requests at the same time do not all choose the same one.
func leastInFlight(_ *Set, list []*Endpoint, usable indexes) *Endpoint {
	var least indexes
	fewest := int64(math.MaxInt64)
	for i, e := range list {
		if !usable.has(i) {
			continue
		}
		n := e.inFlight.Load()
		if n < fewest {
			fewest, least = n, 0
		}
		if n == fewest {
			least.add(i)
		}
	}
	return list[least.at(rand.IntN(least.count()))] // #nosec G404 -- spreads requests; no secret
}
