package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/http1"
	"cbproxy/internal/upstream"
)

// The causes with which an exchange's context ends, unless the client's context ends first.
var (
	errTimeout               = errors.New("the route's timeout passed")
	errDeadline              = errors.New("the call's grpc-timeout passed")
	errDeadlineTooShort      = errors.New("the call's grpc-timeout was too short for any upstream")
	errIdle                  = errors.New("the stream was silent for the route's idle_timeout")
	errSlowClient            = errors.New("the client did not send or take a body in time")
	errStalled               = errors.New("the upstream ended the connection while the client was slow to send its body")
	errReplayed              = upstream.ErrReplayed
	errUnprocessed           = upstream.ErrUnprocessed
	errPaused                = errors.New("the process was paused when the time limit passed")
	errConnEndedDuringUpload = errors.New("the upstream closed the connection during the upload")
	errExchangeDone          = errors.New("the request has ended")
)

// lifetime is the context of an exchange and the timer that ends it. The context ends with the client's context, or before.
// Methods are for the request's goroutine unless they say otherwise.
type lifetime struct {
	context.Context    // set by start
	cancelContext      context.CancelCauseFunc
	cancelSignal       http1.CancelSignal
	clientRegistration http1.Registration // of onClientGone, for the end of the client's context
	onClientGone       func()             // clientContextEnded

	timer           *time.Timer   // runs expire; nil: startContext has not been called
	pausedAtReset   atomic.Int64  // upstream.Paused when the timer was set
	graceGiven      atomic.Bool   // expire has already extended the timer because the process was paused
	pausedAtStart   time.Duration // upstream.Paused at the start
	idleTimerActive atomic.Bool   // the timer is the idle timeout of a stream, not the time limit of the exchange

	mu             sync.Mutex // held by the callbacks (expire, clientContextEnded, AbortRead, connEndedDuringUpload) while they use the client's connection
	callbacksEnded bool       // guarded by mu: the handler is about to return, and the callbacks must do nothing
}

// startContext makes the context end with the client's, calls clientGone at that moment, and sets a timer that calls expire
// after d. Both are called on goroutines of their own. Further calls do nothing.
func (l *lifetime) startContext(client context.Context, d time.Duration, clientGone, expire func()) {
	if l.timer != nil {
		return
	}
	l.Context, l.cancelContext = context.WithCancelCause(context.WithoutCancel(client))
	l.onClientGone = clientGone
	l.clientRegistration = http1.AfterFunc(client, &l.onClientGone)
	l.pausedAtStart = upstream.Paused()
	l.pausedAtReset.Store(int64(l.pausedAtStart))
	l.mu.Lock() // expire uses the timer as well
	l.timer = time.AfterFunc(d, expire)
	l.mu.Unlock()
}

// cancel ends the context. Safe for concurrent use.
func (l *lifetime) cancel(cause error) {
	l.cancelContext(cause)
	l.cancelSignal.Notify()
}

// resetTimer makes the timer expire after d. Safe for concurrent use.
func (l *lifetime) resetTimer(d time.Duration) {
	l.pausedAtReset.Store(int64(upstream.Paused()))
	l.graceGiven.Store(false)
	l.timer.Reset(d)
}

// isStarted reports whether startContext has been called.
func (l *lifetime) isStarted() bool { return l.timer != nil }

// wasPaused reports whether the process has been paused since the start.
func (l *lifetime) wasPaused() bool { return upstream.Paused() > l.pausedAtStart }

// pausedSinceReset reports whether the process has been paused since the timer was set. Safe for concurrent use.
func (l *lifetime) pausedSinceReset() bool { return int64(upstream.Paused()) > l.pausedAtReset.Load() }

// endCallbacks stops the timer. The callbacks do nothing after that.
func (l *lifetime) endCallbacks() {
	l.mu.Lock()
	l.callbacksEnded = true
	l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.clientRegistration.Stop()
	}
}
