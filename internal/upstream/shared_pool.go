package upstream

import "cbproxy/internal/refcount"

// SharedPool is a Pool that is closed by its last user. It is safe for concurrent use.
type SharedPool struct {
	*Pool
	// Key identifies the configuration of the pool. Pools with equal keys are interchangeable.
	Key  any
	refs refcount.Counter
}

// NewSharedPool returns a pool without users.
func NewSharedPool(p *Pool, key any) *SharedPool { return &SharedPool{Pool: p, Key: key} }

// Acquire adds a user.
func (s *SharedPool) Acquire() { s.refs.Acquire(func() {}) }

// Release removes a user. If it was the last one, idle connections are closed, and connections in use once they are idle. It
// does not wait for that.
func (s *SharedPool) Release() { s.refs.Release(s.Close) }
