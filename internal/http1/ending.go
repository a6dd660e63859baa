package http1

import "sync/atomic"

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

// forget keeps f from being told, and reports whether it was not.
func (e *Ending) forget(f *func()) bool { return e.waiter.CompareAndSwap(f, nil) }
