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
	errUnprocessed           = errors.New("the upstream has refused each stream without processing the request")
	errPaused                = errors.New("the process was stopped when the time limit passed")
	errConnEndedDuringUpload = errors.New("the upstream closed the connection during the upload")
	errExchangeDone          = errors.New("the exchange is over")
)

// lifetime is how long an exchange lasts: its context, and the timer that ends it. The context ends with the client's, or
// before. Methods are for the request's goroutine unless they say otherwise.
type lifetime struct {
	context.Context    // set by start
	cancelContext      context.CancelCauseFunc
	cancelSignal       http1.CancelSignal
	clientRegistration http1.Registration // for the end of the client's context
	onClientGone       func()             // what client runs

	timer           *time.Timer   // runs expire; nil: start has not been called
	pausedAtReset   atomic.Int64  // upstream.Paused when the timer was set
	graceGiven      atomic.Bool   // the process was paused since, and expire has waited for what arrived meanwhile
	pausedAtStart   time.Duration // upstream.Paused at the start
	idleTimerActive atomic.Bool   // the timer limits silence, not the exchange

	mu             sync.Mutex // held by a goroutine that ends the exchange, except the request's own
	callbacksEnded bool       // guarded by mu: the handler is about to return, and the client's connection must not be used
}

// start makes the context end with the client's, whereupon clientGone is called, and sets a timer that calls expire after d. Both
// are called on goroutines of their own. Further calls do nothing.
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

// wasPaused reports whether the process has been paused since the start.
func (l *lifetime) wasPaused() bool { return upstream.Paused() > l.pausedAtStart }

// pausedSinceReset reports whether the process has been paused since the timer was set. Safe for concurrent use.
func (l *lifetime) pausedSinceReset() bool { return int64(upstream.Paused()) > l.pausedAtReset.Load() }

// end stops the timer. The methods of other goroutines that use the client's connection do nothing after that.
func (l *lifetime) endCallbacks() {
	l.mu.Lock()
	l.callbacksEnded = true
	l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.clientRegistration.Stop()
	}
}
