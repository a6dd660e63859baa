package http1

import (
	"context"
	"sync"
)

// requestContext is the context of a request that a Server has read. It ends with the request, or when the client
// disconnects. It is optimized for few waiters: package context keeps them in a map. It is safe for concurrent use.
type requestContext struct {
	context.Context // the connection's, which never ends

	mu     sync.Mutex    // guards the following fields
	done   chan struct{} // nil until Done is called
	err    error
	afters []*afterFunc
	signal CancelSignal
}

// afterFunc is a function passed to AfterFunc.
type afterFunc struct{ f func() }

// Done implements context.Context.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc runs f on its own goroutine once the context has ended. stop prevents f from running and reports whether it has
// done so. Package context uses this method if a context has it.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	a := &afterFunc{f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.afters = append(c.afters, a)
	return func() bool { return c.remove(a) }
}

func (c *requestContext) remove(a *afterFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.afters {
		if other == a {
			last := len(c.afters) - 1
			c.afters[i], c.afters[last] = c.afters[last], nil
			c.afters = c.afters[:last]
			return true
		}
	}
	return false
}

// cancel ends the context.
func (c *requestContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.done != nil {
		close(c.done)
	}
	for _, a := range c.afters {
		go a.f()
	}
	c.afters = nil
	c.signal.Notify()
}
