package upstream

import "sync"

// RefCount counts the users of something that outlives reloads: a strategy of the old configuration and one of the new use
// it at the same time for a while, and the last one closes it. Safe for concurrent use; the zero RefCount has no users.
type RefCount struct {
	mu    sync.Mutex // held during open and close, too
	count int
}

// Acquire adds a user, and calls open if it is the first.
func (r *RefCount) Acquire(open func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count++; r.count == 1 {
		open()
	}
}

// Release removes a user, and calls closeIt if it was the last.
func (r *RefCount) Release(closeIt func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count--; r.count == 0 {
		closeIt()
	}
}

// SharedPool is a Pool that its users close together. Safe for concurrent use.
type SharedPool struct {
	*Pool
	// Key says what the pool's connections are made from. Pools with equal keys are interchangeable.
	Key  any
	refs RefCount
}

// NewSharedPool returns a pool without users.
func NewSharedPool(p *Pool, key any) *SharedPool { return &SharedPool{Pool: p, Key: key} }

// Acquire adds a user.
func (s *SharedPool) Acquire() { s.refs.Acquire(func() {}) }

// Release removes a user. It closes the idle connections if that was the last; one in use is closed once it is idle. It does
// not wait for that.
func (s *SharedPool) Release() { s.refs.Release(s.Close) }
