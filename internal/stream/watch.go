package stream

import (
	"sync"
	"time"
)

// Env is what a Watch needs of the request that it belongs to. Its methods are called on any goroutine.
type Env interface {
	// StreamClock returns the current times.
	StreamClock() Clock
	// CheckAfter sets a timer that calls Watch.Check after d.
	CheckAfter(d time.Duration)
	// EndStream is called during a read, which does not return before EndStream does, if the stream has exceeded a limit. err is of
	// type *Error. EndStream makes the read fail.
	EndStream(err error)
}

// Watch is a Meter for a request whose goroutine reads the stream, while a timer checks it. A nil *Watch does nothing. It is safe for
// concurrent use.
type Watch struct {
	env Env

	mu    sync.Mutex // guards meter, and is held while the methods of env are called
	meter *Meter
}

// NewWatch returns the Watch of a stream whose header section has arrived now.
func NewWatch(l Limits, f Format, env Env) *Watch {
	return &Watch{env: env, meter: NewMeter(l, f, env.StreamClock())}
}

// BeginRead is called at the begin of each read.
func (w *Watch) BeginRead() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if check := w.meter.BeginRead(w.env.StreamClock()); check > 0 {
		w.env.CheckAfter(check)
	}
}

// EndRead is called at the end of each read, with what was read. It reports whether that has ended what AwaitsFirstEvent reports.
func (w *Watch) EndRead(p []byte) (begun bool) {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	awaited := w.awaitsFirstEvent()
	w.meter.EndRead(w.env.StreamClock(), p)
	return awaited && !w.awaitsFirstEvent()
}

// Check calls Env.EndStream if the read that is in progress has exceeded a limit.
func (w *Watch) Check() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	next, err := w.meter.Check(w.env.StreamClock())
	switch {
	case err != nil:
		w.env.EndStream(err)
	case next > 0:
		w.env.CheckAfter(next)
	}
}

// AwaitsFirstEvent reports whether there is a limit for the first event of the stream, and no such event yet.
func (w *Watch) AwaitsFirstEvent() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.awaitsFirstEvent()
}

func (w *Watch) awaitsFirstEvent() bool {
	return w.meter.limits.FirstEvent > 0 && !w.meter.content.begun
}
