// Package refcount counts the users of a resource that is opened by its first user and closed by its last.
package refcount

import "sync"

// Counter counts the users of a resource that outlives reloads. During a reload, the strategies of the old and of the new
// configuration use the resource at the same time. The zero Counter has no users. It is safe for concurrent use.
type Counter struct {
	mu    sync.Mutex // guards count, and is held while open and closeIt run
	count int
}

// Acquire adds a user, and calls open if it is the first one.
func (c *Counter) Acquire(open func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count++; c.count == 1 {
		open()
	}
}

// Release removes a user, and calls closeIt if it was the last one.
func (c *Counter) Release(closeIt func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 {
		closeIt()
	}
}
