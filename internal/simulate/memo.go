package simulate

import "cbproxy/internal/breaker"

// maxMemoTransitions is the number of transitions up to which a result is held.
const maxMemoTransitions = 10_000

// Memo holds the latest result of one of two policies that are compared, for the case that the next comparison has it again. The zero
// value holds none. It is not safe for concurrent use.
type Memo struct {
	service string
	policy  breaker.Policy
	hash    uint64 // of the calls
	result  *Result
}

// run is RunChecked, or returns the result that m holds.
func (m *Memo) run(service string, policy breaker.Policy, calls []Call, check Check) (*Result, error) {
	hash := hashOf(calls)
	if m.result != nil && m.service == service && m.policy == policy && m.hash == hash {
		return m.result, nil
	}
	result, err := RunChecked(service, policy, calls, check)
	if err == nil && len(result.Transitions) <= maxMemoTransitions {
		*m = Memo{service, policy, hash, result}
	}
	return result, err
}

// hashOf returns a hash of calls by FNV-1a, whose units are words.
func hashOf(calls []Call) uint64 {
	const prime = 1<<40 | 0x1b3
	hash := uint64(14695981039346656037)
	for i := range calls {
		c := &calls[i]
		for _, word := range [...]uint64{uint64(c.at), uint64(c.took), uint64(c.status)<<16 | uint64(c.result)<<8 | uint64(c.kind)} { // #nosec G115 -- any bits
			hash = (hash ^ word) * prime
		}
	}
	return hash
}
