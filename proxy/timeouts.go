package proxy

import (
	"context"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

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

// upstreamTime returns how long the exchange has lasted, without the time in which it waited for the client's body.
func (x *exchange) upstreamTime() time.Duration {
	return time.Since(x.began) - x.upload.CompletedReadTime()
}

// clientContextEnded is called when the client's context ends, on a goroutine of its own. net/http
// also ends that context if Abort has made a read of the body fail. Then the response of an upstream over HTTP/2, which is
// independent of the upload, must not end.
func (x *exchange) clientContextEnded() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.upload.TransportGaveUp() || x.r.ProtoMajor > 1 || x.route.Config.Upstream.Scheme == "http" {
		x.cancel(context.Canceled)
	}
}

// pauseGrace is how long the responses that arrived while the process was paused have to be read.
const pauseGrace = 500 * time.Millisecond

// expire is called by the timer, on a goroutine of its own. It ends the exchange with the cause of the timeout.
func (x *exchange) expire() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.callbacksEnded {
		return
	}
	paused := x.pausedSinceReset()
	if paused && x.graceGiven.CompareAndSwap(false, true) {
		x.timer.Reset(pauseGrace)
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
	case x.download.started.Load() && !x.download.waitingForUpstream.Load():
		x.cancel(errSlowClient)
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now())
	case x.idleTimerActive.Load() && x.streamWaitsForClient():
		x.cancel(errSlowClient) // the upstream may wait for it
		x.upload.FailRead()
	case x.idleTimerActive.Load():
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
	x.upload.NoteTransportGaveUp()
	x.stopUpload(events.ReasonReset) // if there is a response, this only delays it a little
}

// streamWaitsForClient reports whether a stream may be silent because the upstream waits for the client's body.
func (x *exchange) streamWaitsForClient() bool {
	return x.upload.IsIdle(x.route.Config.IdleTimeout) || x.grpc == nil && x.upload.IsStalling()
}
