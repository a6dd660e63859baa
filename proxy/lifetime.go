package proxy

import (
	"context"
	"errors"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
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

	timer              *time.Timer   // runs expire; nil: startContext has not been called
	deadline           atomic.Int64  // when the timer expires, in nanoseconds since timerEpoch
	pausedAtReset      atomic.Int64  // upstream.Paused when the timer was set
	extendedAfterPause atomic.Bool   // expire has already extended the timer because the process was paused
	pausedAtStart      time.Duration // upstream.Paused at the start
	idleTimerActive    atomic.Bool   // the timer is the idle timeout of a stream, not the time limit of the exchange

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
	l.setDeadline(d)
	l.mu.Lock() // expire uses the timer as well
	l.timer = time.AfterFunc(d, expire)
	l.mu.Unlock()
}

// timerEpoch is the time that deadlines are counted from.
var timerEpoch = time.Now()

func (l *lifetime) setDeadline(d time.Duration) { l.deadline.Store(int64(time.Since(timerEpoch) + d)) }

// isExpired reports whether the deadline has passed. It is false if the timer was reset after it had fired.
func (l *lifetime) isExpired() bool { return int64(time.Since(timerEpoch)) >= l.deadline.Load() }

// cancel ends the context. Safe for concurrent use.
func (l *lifetime) cancel(cause error) {
	l.cancelContext(cause)
	l.cancelSignal.Notify()
}

// resetTimer makes the timer expire after d. Safe for concurrent use.
func (l *lifetime) resetTimer(d time.Duration) {
	l.pausedAtReset.Store(int64(upstream.Paused()))
	l.extendedAfterPause.Store(false)
	l.setDeadline(d)
	l.timer.Reset(d)
}

// stopTimer prevents that the timer expires, even if it has fired already and expire has not begun.
func (l *lifetime) stopTimer() {
	l.deadline.Store(math.MaxInt64)
	l.timer.Stop()
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

// startTimer makes the exchange end with its client, or when its time limit has passed. Further calls do nothing.
func (x *exchange) startTimer() {
	x.startContext(x.r.Context(), x.timeout(), x.clientContextEnded, x.expire)
}

// timeout returns the time limit of the exchange: the route's timeout, or the gRPC caller's if that is shorter.
func (x *exchange) timeout() time.Duration {
	if x.callerDeadlineApplies() {
		return x.grpc.timeout
	}
	return x.route.Config.Timeout
}

// remaining returns what is left of the time limit.
func (x *exchange) remaining() time.Duration { return x.timeout() - time.Since(x.began) }

// callerDeadlineApplies reports whether the gRPC caller's timeout is shorter than the route's.
func (x *exchange) callerDeadlineApplies() bool {
	return x.grpc != nil && x.grpc.timeout > 0 && x.grpc.timeout < x.route.Config.Timeout
}

// callerDeadlineTooShort reports whether the gRPC caller's timeout is so short that its passing is no failure of the upstream.
func (x *exchange) callerDeadlineTooShort() bool {
	return x.callerDeadlineApplies() && x.grpc.timeout < minCallerDeadline
}

// callerDeadlineNear reports whether the caller's deadline has passed or is about to: clocks differ a little.
func (x *exchange) callerDeadlineNear() bool { return time.Since(x.began) >= x.grpc.timeout*9/10 }

// elapsedWithoutUpload returns how long the exchange has lasted, without the time in which it waited for the client's body.
func (x *exchange) elapsedWithoutUpload() time.Duration {
	return time.Since(x.began) - x.upload.CompletedReadTime()
}

// clientContextEnded is called when the client's context ends, on a goroutine of its own. net/http
// also ends that context if AbortRead has made a read of the body fail. Then the response of an upstream over HTTP/2, which is
// independent of the upload, must not end. An upstream with the scheme http speaks HTTP/1.1, whose response ends with the upload.
// A client that disconnects after AbortRead is noticed by the next write to it, or by the timer.
func (x *exchange) clientContextEnded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.upload.ClosedDuringRead() || x.r.ProtoMajor > 1 || x.route.Config.Upstream[0].Scheme == "http" {
		x.cancel(context.Canceled)
	}
}

// pauseExtension is how long the responses that arrived while the process was paused have to be read.
const pauseExtension = 500 * time.Millisecond

// expire is called by the timer, on a goroutine of its own. It ends the exchange with the cause of the timeout.
func (x *exchange) expire() {
	x.mu.Lock()
	defer x.mu.Unlock()
	// The state is read before the deadline, and set after it: if a read of the response has reset the timer meanwhile, it is not
	// judged by the state that it has set.
	writing := x.download.started.Load() && !x.download.waitingForUpstream.Load()
	isStream := x.idleTimerActive.Load()
	if x.callbacksEnded || !x.isExpired() {
		return
	}
	paused := x.pausedSinceReset()
	if paused && x.extendedAfterPause.CompareAndSwap(false, true) {
		x.timer.Reset(pauseExtension)
		return
	}
	if t := x.tunnel.Load(); t != nil {
		t.End() // neither side sent anything, which is no failure
		return
	}
	switch {
	case paused:
		x.cancel(errPaused)
		x.stopUpload(events.ReasonOverload)
	case writing:
		x.cancel(errSlowClient)
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now())
	case isStream && x.streamWaitsForClient():
		x.cancel(errSlowClient) // the upstream may wait for it
		x.upload.FailRead()
	case isStream:
		x.cancel(errIdle)
		x.upload.FailRead()
	case x.upload.IsSlow():
		x.cancel(errSlowClient)
		x.upload.FailRead()
	case x.callerDeadlineApplies():
		x.cancel(x.grpc.deadlineError())
		x.upload.FailRead()
	default:
		x.cancel(errTimeout)
		x.stopUpload(events.ReasonTimeout)
	}
}

// stopUpload makes the transport stop reading the client's body: http.Transport waits for such a read before it returns. A
// fallback for reason may still read the rest.
func (x *exchange) stopUpload(reason events.Reason) {
	if !x.route.HasFallbackFor(reason) || !x.upload.StopForFallback() {
		x.upload.FailRead()
	}
}

// AbortRead implements upload.Owner: it makes a read of the client's body fail for a transport that has given up a request.
// net/http may take the failed read for the client's end.
func (x *exchange) AbortRead() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.callbacksEnded || x.Err() != nil { // the end of the context has made the read fail
		return
	}
	x.upload.NoteClosedDuringRead()
	x.stopUpload(events.ReasonReset) // if there is a response, this only delays it a little
}

// streamWaitsForClient reports whether a stream may be silent because the upstream waits for the client's body.
func (x *exchange) streamWaitsForClient() bool {
	return x.upload.IsIdle(x.route.Config.IdleTimeout) || x.grpc == nil && x.upload.IsStalling()
}
