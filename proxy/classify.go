package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/internal/stream"
	"cbproxy/internal/upstream"
)

// classify reports an attempt that failed with err. If the exchange's context has ended, its cause (see lifetime.go)
// determines the class, and upstream.Classify otherwise. The attempt is reported to the breaker as an events.Failure with one
// of the types of metrics, as a local error, or as cancelled. respondAfterFailure then chooses the fallback's reason, an
// events.Reason, or a problem for a request that is invalid itself.
func (a *attempt) classify(err error) {
	if a.cancelledByOther(err) {
		a.reportCancelled()
		return
	}
	if a.clientAtFault() {
		a.reportClientFault()
		return
	}
	if err == errPanic {
		a.requestProblem = problem.Internal
		a.reportCancelled()
		a.x.outcome.Result = events.ResultFailure // as in handlePanic
		return
	}
	cause := a.cause()
	if limit, ok := cause.(*stream.Error); ok {
		a.reportFailure(limit.Type(), limit)
		return
	}
	switch cause {
	case errPaused:
		a.reportLocalFailure(events.LocalPause, cause)
	case errTimeout, errDeadline, errAttemptTimeout:
		if a.connSilentSinceStart() {
			a.lease.Pool.DiscardConnectionsOnceSince(a.start)
		}
		a.reportFailure(events.ErrorTimeout, cause)
	case errIdle:
		a.reportFailure(events.ErrorIdle, cause)
	case errReplayed, errConnEndedDuringUpload, errUnprocessed:
		a.reportFailure(events.ErrorReset, cause)
	case context.Canceled: // leftAtDeadline holds, or clientAtFault would have
		a.reportFailure(events.ErrorTimeout, errDeadline)
	default:
		a.classifyTransportError(err)
	}
}

// alwaysAcceptedHeader is the size in bytes of a header section that every server accepts.
const alwaysAcceptedHeader = 4 << 10

// classifyTransportError reports an error of the transport, while the exchange's context has not ended.
func (a *attempt) classifyTransportError(err error) {
	progress := upstream.NotConnected
	switch {
	case a.status != 0:
		progress = upstream.Responded
	case a.replays.Connected():
		progress = upstream.Connected
	}
	fault := upstream.Classify(err, progress)
	switch {
	case fault.Local != "":
		a.reportLocalFailure(fault.Local, err)
	case fault.RequestProblem == http.StatusRequestHeaderFieldsTooLarge && message.HeaderSize(a.x.r) < alwaysAcceptedHeader:
		a.noteOverload()
		a.rejectedForLoad = true // not the header section: the upstream is overloaded (ENHANCE_YOUR_CALM)
		a.reportNeutral(events.ResultRejected)
	case fault.RequestProblem != 0:
		a.requestProblem = problem.ForRequest(fault.RequestProblem)
		a.reportCancelled()
	case a.x.WasPaused(): // the upstream may have closed a connection from which nothing was read
		a.reportLocalFailure(events.LocalPause, err)
	case a.cancelledAtDeadline(err):
		if a.x.grpc.DeadlineTooShort() {
			a.requestProblem = problem.ByReason(events.ReasonTimeout)
			a.reportCancelled()
			return
		}
		a.reportFailure(events.ErrorTimeout, errDeadline)
	default:
		if fault.Failure == events.ErrorProtocol && a.conn != nil && a.conn.ClosedByUpstream() {
			fault.Failure = events.ErrorReset // a header section that ends early looks malformed
		}
		if (fault.Failure == events.ErrorReset || fault.Failure == events.ErrorTruncated) && a.resetByStallingClient() {
			a.x.Cancel(errStalled)
			a.reportCancelled()
			return
		}
		a.reportFailure(fault.Failure, err)
	}
}

// connSilentSinceStart reports whether nothing has arrived on the attempt's HTTP/2 connection since the attempt began.
func (a *attempt) connSilentSinceStart() bool {
	return a.multiplexed && a.conn != nil && a.conn.NothingReadSince(a.start)
}

// cancelledAtDeadline reports whether err is the upstream's cancellation of a call whose deadline, which it knows from
// grpc-timeout, has passed or is about to. A very short deadline may have passed before the call reached the upstream.
func (a *attempt) cancelledAtDeadline(err error) bool {
	x := a.x
	if !x.grpc.DeadlineApplies() || !strings.Contains(err.Error(), "CANCEL") {
		return false
	}
	return x.grpc.DeadlineTooShort() || x.grpc.DeadlineNear()
}

// reportClientFault reports an attempt whose client is gone, or has sent a malformed body or none in time. It counts neither as a
// success nor as a failure, unless the client has waited for a response for breaker.abandoned_after.
func (a *attempt) reportClientFault() {
	x := a.x
	limit := x.route.Config.Breaker.AbandonedAfter
	if a.reported || context.Cause(a) != context.Canceled || x.upload.ClosedDuringRead() || x.upload.Err() != nil || x.WasPaused() {
		a.reportCancelled()
		return
	}
	if waited := x.elapsedWithoutUpload(); limit > 0 && a.status == 0 && waited >= limit && !x.upload.IsSlow() {
		a.reportFailure(events.ErrorAbandoned, fmt.Errorf("the client gave up after %v without a response", waited.Round(time.Millisecond)))
		return
	}
	a.reported = true
	x.outcome.Result = events.ResultCancelled
	a.call.WithStatus(a.status).Abandon(a.responseTime())
}

// cancelledByOther reports whether err is the cancellation of another exchange. http.Transport returns a connection to the
// pool before it has notified the last request that its response, one without a body, is complete. If that request is
// cancelled at this moment, the connection is closed under the next request.
func (a *attempt) cancelledByOther(err error) bool {
	return errors.Is(err, context.Canceled) && a.cause() == nil && !a.x.upload.ClosedDuringRead()
}

// clientAtFault reports whether the client's body was malformed, or the client was gone or too slow, before another cause ended
// the exchange.
func (a *attempt) clientAtFault() bool {
	cause := a.cause()
	if _, ok := cause.(*stream.Error); ok {
		return false
	}
	switch cause {
	case nil:
		return a.x.upload.Err() != nil
	case errTimeout, errDeadline, errAttemptTimeout, errIdle, errReplayed, errConnEndedDuringUpload, errUnprocessed, errPaused: // the upload had not failed until then
		return false
	}
	return !a.leftAtDeadline()
}

// cause returns why the attempt's context ended. It is nil if the context has not ended, or if net/http has ended it only
// because AbortRead made a read of the client's body fail.
func (a *attempt) cause() error {
	cause := context.Cause(a)
	if cause == context.Canceled && a.x.upload.ClosedDuringRead() {
		return nil
	}
	return cause
}

// leftAtDeadline reports whether the caller cancelled because its own deadline had passed: the upstream was too slow then. The
// caller's clock may be a little ahead.
func (a *attempt) leftAtDeadline() bool {
	x := a.x
	return context.Cause(a) == context.Canceled && a.status == 0 && x.grpc.DeadlineApplies() &&
		!x.grpc.DeadlineTooShort() && x.grpc.DeadlineNear() && !x.WasPaused()
}

// resetByStallingClient reports whether a reset is caused by a client that is slow to send its body. If the
// connection ended or the transport closed the body before the transport returned, NoteStalling has recorded the state at that
// time, which counts; otherwise the current one does.
func (a *attempt) resetByStallingClient() bool {
	b := &a.x.upload
	if a.status != 0 && a.x.grpc != nil {
		return false // either side of a call may be silent at any time
	}
	return b.WasStalling() || !b.ClosedDuringRead() && b.IsStalling()
}
