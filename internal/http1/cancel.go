package http1

import (
	"context"
	"sync/atomic"
)

// CancelSignalKey is the key under which a request's context may have an *CancelSignal as its value, that of its own end: whoever
// puts one there takes care that End is called when the context ends, and not before. A Transport then waits for that, which
// costs less than to wait for the context. A context below it must hide it by a value of its own, such as nil.
type CancelSignalKey struct{}

// CancelSignal tells one waiter of a context's end. The zero CancelSignal is ready. Safe for concurrent use.
type CancelSignal struct{ waiter atomic.Pointer[func()] }

var ended = func() {}

// End has whoever waits told, on a goroutine of its own, and whoever comes later.
func (e *CancelSignal) Notify() {
	if f := e.waiter.Swap(&ended); f != nil && f != &ended {
		go (*f)()
	}
}

// tell has f told, which nobody else must be waiting beside, and reports whether that is so.
func (e *CancelSignal) tell(f *func()) bool {
	if e.waiter.CompareAndSwap(nil, f) {
		return true
	}
	if e.waiter.Load() != &ended {
		return false
	}
	go (*f)()
	return true
}

// Registration waits for a context's end. The zero Registration waits for none.
type Registration struct {
	f      *func()
	ending *CancelSignal // is to tell f; nil: stop is for the context
	stop   func() bool   // context.AfterFunc's
}

// AfterFunc has f run when ctx ends, on a goroutine of its own. It is context.AfterFunc, but asks the CancelSignal where the
// context is a Server's or has one.
func AfterFunc(ctx context.Context, f *func()) Registration {
	w := Registration{f: f}
	if c, ok := ctx.(*requestContext); ok {
		w.ending = &c.ending
	} else {
		w.ending, _ = ctx.Value(CancelSignalKey{}).(*CancelSignal)
	}
	if w.ending == nil || !w.ending.tell(f) {
		w.ending, w.stop = nil, context.AfterFunc(ctx, *f)
	}
	return w
}

// Stop keeps f from being run, and reports whether it did: not if the context has ended before, or Stop has been called.
func (w *Registration) Stop() (stopped bool) {
	switch {
	case w.ending != nil:
		stopped = w.ending.waiter.CompareAndSwap(w.f, nil)
	case w.stop != nil:
		stopped = w.stop()
	}
	*w = Registration{}
	return stopped
}
