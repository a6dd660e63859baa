package http1

import (
	"context"
	"sync/atomic"
)

// EndingKey is the key under which a request's context may have an *Ending as its value, that of its own end: whoever
// puts one there takes care that End is called when the context ends, and not before. A Transport then waits for that, which
// costs less than to wait for the context. A context below it must hide it by a value of its own, such as nil.
type EndingKey struct{}

// Ending tells one waiter of a context's end. The zero Ending is ready. Safe for concurrent use.
type Ending struct{ waiter atomic.Pointer[func()] }

var ended = func() {}

// End has whoever waits told, on a goroutine of its own, and whoever comes later.
func (e *Ending) End() {
	if f := e.waiter.Swap(&ended); f != nil && f != &ended {
		go (*f)()
	}
}

// tell has f told, which nobody else must be waiting beside, and reports whether that is so.
func (e *Ending) tell(f *func()) bool {
	if e.waiter.CompareAndSwap(nil, f) {
		return true
	}
	if e.waiter.Load() != &ended {
		return false
	}
	go (*f)()
	return true
}

// Watch waits for a context's end. The zero Watch waits for none.
type Watch struct {
	f      *func()
	ending *Ending     // is to tell f; nil: stop is for the context
	stop   func() bool // context.AfterFunc's
}

// WatchEnd has f run when ctx ends, on a goroutine of its own. It is context.AfterFunc, but asks the Ending where the
// context is a Server's or has one.
func WatchEnd(ctx context.Context, f *func()) Watch {
	w := Watch{f: f}
	if c, ok := ctx.(*requestContext); ok {
		w.ending = &c.ending
	} else {
		w.ending, _ = ctx.Value(EndingKey{}).(*Ending)
	}
	if w.ending == nil || !w.ending.tell(f) {
		w.ending, w.stop = nil, context.AfterFunc(ctx, *f)
	}
	return w
}

// Stop keeps f from being run, and reports whether it did: not if the context has ended before, or Stop has been called.
func (w *Watch) Stop() (stopped bool) {
	switch {
	case w.ending != nil:
		stopped = w.ending.waiter.CompareAndSwap(w.f, nil)
	case w.stop != nil:
		stopped = w.stop()
	}
	*w = Watch{}
	return stopped
}
