package http1

import (
	"context"
	"sync"
)

// requestContext is the context of a request that a Server has read. It ends with the request, or when its client
// leaves. It is made for few to wait for it: package context's own remembers each of them in a map.
type requestContext struct {
	context.Context // the connection's, which does not end

	mu     sync.Mutex
	done   chan struct{} // nil: nobody has asked for it
	err    error
	afters []*after
	ending CancelSignal
}

// after is a call of AfterFunc.
type after struct{ f func() }

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

// AfterFunc is looked for by package context: it has f run on a goroutine of its own once the context has ended. stop keeps
// f from running, and reports whether it did.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	a := &after{f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.afters = append(c.afters, a)
	return func() bool { return c.remove(a) }
}

func (c *requestContext) remove(a *after) bool {
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
	c.ending.Notify()
}
