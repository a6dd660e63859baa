package limit

import "sync/atomic"

// Concurrency counts requests in flight. Safe for concurrent use; the zero Concurrency is ready to use.
type Concurrency struct{ inFlight atomic.Int64 }

// TryAcquire takes a permit if fewer than limit are in use. A permit that was taken must be released.
func (c *Concurrency) TryAcquire(limit int64) bool {
	if c.inFlight.Add(1) <= limit {
		return true
	}
	c.Release()
	return false
}

// Release returns a permit.
func (c *Concurrency) Release() { c.inFlight.Add(-1) }

// InFlight returns how many permits are in use.
func (c *Concurrency) InFlight() int64 { return c.inFlight.Load() }
