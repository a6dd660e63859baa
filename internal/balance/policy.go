package balance

import (
	"math"
	"math/bits"
	"time"
)

// Policy says how endpoints are chosen and when they are ejected.
type Policy struct {
	// Name is the name of the way in which endpoints are chosen: see policies.
	Name string
	// FailMax is the number of consecutive failures that ejects an endpoint; 0: none is ejected.
	FailMax int
	// Time is the duration of the first of consecutive ejections. The n-th one lasts n times as long, at most maxGrowth times.
	Time time.Duration
	// MaxRatio is the share of the endpoints that may be ejected at once, rounded up. At least one endpoint always stays in.
	MaxRatio float64
	// HealthChecks means that an ejected endpoint gets requests again after a successful health check, and that no request is a trial.
	HealthChecks bool
}

// maxGrowth limits the growth of ejections.
const maxGrowth = 10

// ejection returns the duration of the n-th consecutive ejection.
func (p *Policy) ejection(n int) time.Duration { return p.Time * time.Duration(min(n, maxGrowth)) }

// maxEjected returns how many of n endpoints may be ejected at once.
func (p *Policy) maxEjected(n int) int {
	if p.FailMax == 0 {
		return 0
	}
	const tolerance = 1e-9 // of a product that should be a whole number
	return min(int(math.Ceil(p.MaxRatio*float64(n)-tolerance)), n-1)
}

// policies are the functions that choose one of a list of endpoints, by the name of the policy. At least two of them are usable.
var policies = map[string]func(s *Set, list []*Endpoint, usable indexes) *Endpoint{
	"least_in_flight": leastInFlight,
	"round_robin":     roundRobin,
}

// indexes is a set of indexes below MaxEndpoints, as a bit mask: a choice then allocates nothing.
type indexes uint64

// add adds i.
func (x *indexes) add(i int) { *x |= 1 << i }

// has reports whether i is one of them.
func (x indexes) has(i int) bool { return x&(1<<i) != 0 }

// count returns the number of indexes.
func (x indexes) count() int { return bits.OnesCount64(uint64(x)) }

// at returns the n-th index in ascending order, from 0 on.
func (x indexes) at(n int) int {
	for range n {
		x &= x - 1 // without the lowest one
	}
	return bits.TrailingZeros64(uint64(x))
}
