// Package lifetime has the context of a request and the timer that ends it.
package lifetime

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/http1"
	"cbproxy/internal/upstream"
)

// Lifetime is the context of a request and the timer that ends it. The context ends with the client's context, or before. The zero
// Lifetime is ready for Start. Methods are for the request's goroutine unless they say otherwise.
//
// The functions given to Start are callbacks: they run on other goroutines and may use the client's connection until EndCallbacks
// returns. A callback calls BeginCallback first.
type Lifetime struct {
	context.Context    // set by Start
	cancelContext      context.CancelCauseFunc
	cancelSignal       http1.CancelSignal
	clientRegistration http1.Registration // of onClientGone, for the end of the client's context
	onClientGone       func()             // the clientGone of Start

	timer              *time.Timer   // nil: Start has not been called
	deadline           atomic.Int64  // when the timer expires, in nanoseconds since timerEpoch
	pausedAtReset      atomic.Int64  // upstream.Paused when the timer was set
	extendedAfterPause atomic.Bool   // ExtendAfterPause has already extended the timer
	pausedAtStart      time.Duration // upstream.Paused at the start

	mu    sync.Mutex // held during callbacks
	ended bool       // guarded by mu: EndCallbacks has been called
}

// Start makes the context end with the client's, calls clientGone at that moment, and sets a timer that calls expire after d. Both are
// called on goroutines of their own. Further calls do nothing.
func (l *Lifetime) Start(client context.Context, d time.Duration, clientGone, expire func()) {
	if l.timer != nil {
		return
	}
	l.Context, l.cancelContext = context.WithCancelCause(context.WithoutCancel(client))
	l.onClientGone = clientGone
	l.clientRegistration = http1.AfterFunc(client, &l.onClientGone)
	l.pausedAtStart = upstream.Paused()
	l.pausedAtReset.Store(int64(l.pausedAtStart))
	l.setDeadline(d)
	l.mu.Lock() // expire uses the timer as well
	l.timer = time.AfterFunc(d, expire)
	l.mu.Unlock()
}

// Started reports whether Start has been called.
func (l *Lifetime) Started() bool { return l.timer != nil }

// Cancel ends the context. Safe for concurrent use.
func (l *Lifetime) Cancel(cause error) {
	l.cancelContext(cause)
	l.cancelSignal.Notify()
}

// CancelSignal returns the signal of the end of the context, for a transport on the request's goroutine.
func (l *Lifetime) CancelSignal() *http1.CancelSignal { return &l.cancelSignal }

// timerEpoch is the time that deadlines are counted from.
var timerEpoch = time.Now()

func (l *Lifetime) setDeadline(d time.Duration) { l.deadline.Store(int64(time.Since(timerEpoch) + d)) }

// ResetTimer makes the timer expire after d. Safe for concurrent use.
func (l *Lifetime) ResetTimer(d time.Duration) {
	l.pausedAtReset.Store(int64(upstream.Paused()))
	l.extendedAfterPause.Store(false)
	l.setDeadline(d)
	l.timer.Reset(d)
}

// CheckAfter makes the timer call expire after d if its deadline is later. Expired then reports false, and the deadline stays the same.
// Safe for concurrent use.
func (l *Lifetime) CheckAfter(d time.Duration) {
	left := time.Duration(l.deadline.Load()) - time.Since(timerEpoch)
	l.timer.Reset(min(d, left))
}

// StopTimer prevents that the timer expires, even if it has fired already and expire has not begun.
func (l *Lifetime) StopTimer() {
	l.deadline.Store(math.MaxInt64)
	l.timer.Stop()
}

// Expired reports whether the timer's deadline has passed. It is false if the timer was reset after it had fired. Safe for concurrent
// use.
func (l *Lifetime) Expired() bool { return int64(time.Since(timerEpoch)) >= l.deadline.Load() }

// WasPaused reports whether the process has been paused since the start.
func (l *Lifetime) WasPaused() bool { return upstream.Paused() > l.pausedAtStart }

// PausedSinceReset reports whether the process has been paused since the timer was set. Safe for concurrent use.
func (l *Lifetime) PausedSinceReset() bool { return int64(upstream.Paused()) > l.pausedAtReset.Load() }

// pauseExtension is how long the responses that arrived while the process was paused have to be read.
const pauseExtension = 500 * time.Millisecond

// ExtendAfterPause makes the timer expire a little later. It is called by expire after a pause of the process, and reports false if it
// has been called since the timer was set.
func (l *Lifetime) ExtendAfterPause() bool {
	if !l.extendedAfterPause.CompareAndSwap(false, true) {
		return false
	}
	l.timer.Reset(pauseExtension)
	return true
}

// BeginCallback is called at the begin of a callback. It waits for the end of another one. If it returns false, the callback must do
// nothing; otherwise EndCallback must be called.
func (l *Lifetime) BeginCallback() bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	return true
}

// EndCallback is called at the end of a callback.
func (l *Lifetime) EndCallback() { l.mu.Unlock() }

// EndCallbacks stops the timer, and waits for the end of a callback. No callback does anything after that.
func (l *Lifetime) EndCallbacks() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.clientRegistration.Stop()
	}
}
