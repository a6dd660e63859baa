package upstream

import "sync"

// RefCount counts the users of a resource that outlives reloads. During a reload, strategies of the old and of the new
// configuration use the resource at the same time, and the last user closes it. The zero RefCount has no users. It is safe for
// concurrent use.
type RefCount struct {
	mu    sync.Mutex // guards count, and is held while open and closeIt run
	count int
}

// Acquire adds a user, and calls open if it is the first one.
func (r *RefCount) Acquire(open func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count++; r.count == 1 {
		open()
	}
}

// Release removes a user, and calls closeIt if it was the last one.
func (r *RefCount) Release(closeIt func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count--; r.count == 0 {
		closeIt()
	}
}

// SharedPool is a Pool that is closed by its last user. It is safe for concurrent use.
type SharedPool struct {
	*Pool
	// Key identifies the configuration of the pool. Pools with equal keys are interchangeable.
	Key  any
	refs RefCount
}

// NewSharedPool returns a pool without users.
func NewSharedPool(p *Pool, key any) *SharedPool { return &SharedPool{Pool: p, Key: key} }

// Acquire adds a user.
func (s *SharedPool) Acquire() { s.refs.Acquire(func() {}) }

// Release removes a user. If it was the last one, idle connections are closed, and connections in use once they are idle. It
// does not wait for that.
func (s *SharedPool) Release() { s.refs.Release(s.Close) }
