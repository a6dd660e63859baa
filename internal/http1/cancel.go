package http1

import (
	"context"
	"sync/atomic"
)

// CancelSignalKey is the context key of a *CancelSignal for the context itself. The code that sets the value must call Notify when
// the context ends, and not before. A Transport then uses the signal, which costs less than context.AfterFunc. A context
// derived from that one must hide the value with one of its own, such as nil, if it can end earlier.
type CancelSignalKey struct{}

// CancelSignal notifies one waiter that a context has ended. The zero value is ready for use. It is safe for concurrent use.
type CancelSignal struct{ waiter atomic.Pointer[func()] }

// notified is the waiter of a signal whose context has ended.
var notified = func() {}

// Notify runs the registered function on its own goroutine. Functions that are registered later run at once.
func (s *CancelSignal) Notify() {
	if f := s.waiter.Swap(&notified); f != nil && f != &notified {
		go (*f)()
	}
}

// register registers f. It reports false if another function is registered already.
func (s *CancelSignal) register(f *func()) bool {
	if s.waiter.CompareAndSwap(nil, f) {
		return true
	}
	if s.waiter.Load() != &notified {
		return false
	}
	go (*f)()
	return true
}

// Registration is a function that waits for the end of a context. The zero value is a stopped registration.
type Registration struct {
	f      *func()
	signal *CancelSignal // where f is registered; nil: it is registered with context.AfterFunc
	stop   func() bool   // as returned by context.AfterFunc
}

// AfterFunc runs f on its own goroutine when ctx has ended. It does the same as context.AfterFunc, but uses a CancelSignal
// if ctx is the context of a Server's request or has one as a value.
func AfterFunc(ctx context.Context, f *func()) Registration {
	r := Registration{f: f}
	if c, ok := ctx.(*requestContext); ok {
		r.signal = &c.signal
	} else {
		r.signal, _ = ctx.Value(CancelSignalKey{}).(*CancelSignal)
	}
	if r.signal == nil || !r.signal.register(f) {
		r.signal, r.stop = nil, context.AfterFunc(ctx, *f)
	}
	return r
}

// Stop prevents f from being run. It reports false if the context has ended before or Stop has already been called.
func (r *Registration) Stop() (stopped bool) {
	switch {
	case r.signal != nil:
		stopped = r.signal.waiter.CompareAndSwap(r.f, nil)
	case r.stop != nil:
		stopped = r.stop()
	}
	*r = Registration{}
	return stopped
}
