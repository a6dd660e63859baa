package algorithm

import "cbproxy/internal/events"

// callCounts are numbers of calls. requests are those that were made, rejected the others. connects, timeouts, resets and statuses
// are the failures of these types.
type callCounts struct {
	requests, failures, slow, rejected   uint32
	connects, timeouts, resets, statuses uint32
}

// countsOf returns the counts of one call.
func countsOf(call Observation) callCounts {
	c := callCounts{requests: 1}
	if call.Slow {
		c.slow = 1
	}
	if !call.Failed {
		return c
	}
	c.failures = 1
	switch call.Type {
	case events.ErrorConnect:
		c.connects = 1
	case events.ErrorTimeout:
		c.timeouts = 1
	case events.ErrorReset:
		c.resets = 1
	case events.ErrorStatus:
		c.statuses = 1
	}
	return c
}

// public returns the counts as others see them.
func (c callCounts) public() events.Counts {
	return events.Counts{Requests: c.requests, Successes: c.requests - c.failures, Failures: c.failures, Slow: c.slow}
}

func (c *callCounts) add(o callCounts) {
	c.requests += o.requests
	c.failures += o.failures
	c.slow += o.slow
	c.rejected += o.rejected
	c.connects += o.connects
	c.timeouts += o.timeouts
	c.resets += o.resets
	c.statuses += o.statuses
}

func (c *callCounts) sub(o callCounts) {
	c.requests -= o.requests
	c.failures -= o.failures
	c.slow -= o.slow
	c.rejected -= o.rejected
	c.connects -= o.connects
	c.timeouts -= o.timeouts
	c.resets -= o.resets
	c.statuses -= o.statuses
}
