package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

// The causes with which an exchange's context ends, unless the client's context ends first.
var (
	errTimeout               = errors.New("the route's timeout passed")
	errAttemptTimeout        = errors.New("the route's attempt_timeout passed")
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

// startTimer makes the exchange end with its client, or when its time limit has passed. Further calls do nothing.
func (x *exchange) startTimer() {
	x.Start(x.r.Context(), x.timeout(), x.clientContextEnded, x.expire)
}

// timeout returns the time limit of the exchange: the route's timeout, or the gRPC caller's if that is shorter.
func (x *exchange) timeout() time.Duration {
	if x.grpc.DeadlineApplies() {
		return x.grpc.Timeout()
	}
	return x.route.Config.Timeout
}

// remaining returns what is left of the time limit.
func (x *exchange) remaining() time.Duration { return x.timeout() - time.Since(x.began) }

// elapsedWithoutUpload returns how long the exchange has lasted, without the time in which it waited for the client's body.
func (x *exchange) elapsedWithoutUpload() time.Duration {
	return time.Since(x.began) - x.upload.CompletedReadTime()
}

// clientContextEnded is called when the client's context ends, on a goroutine of its own. net/http
// also ends that context if AbortRead has made a read of the body fail. Then the response of an upstream over HTTP/2, which is
// independent of the upload, must not end. An upstream with the scheme http speaks HTTP/1.1, whose response ends with the upload.
// A client that disconnects after AbortRead is noticed by the next write to it, or by the timer.
func (x *exchange) clientContextEnded() {
	if !x.BeginCallback() {
		return
	}
	defer x.EndCallback()
	if !x.upload.ClosedDuringRead() || x.r.ProtoMajor > 1 || x.route.SpeaksHTTP1 {
		x.Cancel(context.Canceled)
	}
}

// expire is called by the timer, on a goroutine of its own. It ends the exchange with the cause of the timeout.
func (x *exchange) expire() {
	if !x.BeginCallback() {
		return
	}
	defer x.EndCallback()
	// The state is read before the deadline, and set after it: if a read of the response has reset the timer meanwhile, it is not
	// judged by the state that it has set.
	writing := x.download.IsWriting()
	isStream := x.idleTimerActive.Load()
	if !x.Expired() {
		x.download.watch.Load().Check()
		return
	}
	paused := x.PausedSinceReset()
	if paused && x.ExtendAfterPause() {
		return
	}
	if t := x.tunnel.Load(); t != nil {
		t.End() // neither side sent anything, which is no failure
		return
	}
	switch {
	case paused:
		x.Cancel(errPaused)
		x.stopUpload(events.ReasonOverload)
	case writing:
		x.Cancel(errSlowClient)
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now())
	case isStream && x.streamWaitsForClient():
		x.Cancel(errSlowClient) // the upstream may wait for it
		x.upload.FailRead()
	case isStream:
		x.Cancel(errIdle)
		x.upload.FailRead()
	case x.upload.IsSlow():
		x.Cancel(errSlowClient)
		x.upload.FailRead()
	case x.grpc.DeadlineTooShort():
		x.Cancel(errDeadlineTooShort)
		x.upload.FailRead()
	case x.grpc.DeadlineApplies():
		x.Cancel(errDeadline)
		x.upload.FailRead()
	default:
		x.Cancel(errTimeout)
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
	if !x.BeginCallback() {
		return
	}
	defer x.EndCallback()
	if x.Err() != nil { // the end of the context has made the read fail
		return
	}
	x.upload.NoteClosedDuringRead()
	x.stopUpload(events.ReasonReset) // if there is a response, this only delays it a little
}

// streamWaitsForClient reports whether a stream may be silent because the upstream waits for the client's body.
func (x *exchange) streamWaitsForClient() bool {
	return x.upload.IsIdle(x.route.Config.IdleTimeout) || x.grpc == nil && x.upload.IsStalling()
}
