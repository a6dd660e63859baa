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
	"cbproxy/internal/service"
	"cbproxy/internal/upload"
	"cbproxy/internal/upstream"
)

// classify reports a failed attempt with the class of its error.
func (a *attempt) classify(err error) {
	if a.clientAtFault() || a.cancelledByOther(err) {
		a.clientGone()
		return
	}
	switch cause := a.cause(); cause {
	case errPaused:
		a.failedLocally(events.LocalPause, cause)
	case errTimeout, errDeadline:
		if a.unanswered() {
			a.x.route.Pool.RenewAfterSilence(a.start)
		}
		a.failed(events.ErrorTimeout, cause)
	case errIdle:
		a.failed(events.ErrorIdle, cause)
	case errReplayed, errUploadLost, errUnprocessed:
		a.failed(events.ErrorReset, cause)
	case context.Canceled: // the client's, at its deadline
		a.failed(events.ErrorTimeout, errDeadline)
	default:
		a.classifyTransportError(err)
	}
}

// minLargeHeader is the size in bytes of a header section that every server accepts.
const minLargeHeader = 4 << 10

// classifyTransportError reports an error that only the transport has caused.
func (a *attempt) classifyTransportError(err error) {
	progress := upstream.NotConnected
	switch {
	case a.status != 0:
		progress = upstream.Responded
	case a.conns > 0:
		progress = upstream.Connected
	}
	fault := upstream.Classify(err, progress)
	switch {
	case fault.Local != "":
		a.failedLocally(fault.Local, err)
	case fault.Refused == http.StatusRequestHeaderFieldsTooLarge && message.HeaderSize(a.x.r) < minLargeHeader:
		a.overload = true // so small a header section is not what the upstream refuses
		a.reportNeutral(events.ResultRejected)
	case fault.Refused != 0:
		a.refused = unsendable[fault.Refused]
		a.cancelled()
	case a.x.wasPaused(): // the upstream may have seen a client that read nothing
		a.failedLocally(events.LocalPause, err)
	case a.cancelledAtDeadline(err):
		if a.x.hasShortDeadline() {
			a.refused = unanswered[events.ReasonTimeout]
			a.cancelled()
			return
		}
		a.failed(events.ErrorTimeout, errDeadline)
	default:
		if fault.Failure == events.ErrorProtocol && a.conn != nil && a.conn.Ended() {
			fault.Failure = events.ErrorReset // half a header section looks malformed
		}
		if (fault.Failure == events.ErrorReset || fault.Failure == events.ErrorTruncated) && a.stalled() {
			a.x.cancel(errStalled)
			a.cancelled()
			return
		}
		a.failed(fault.Failure, err)
	}
}

// unanswered reports whether nothing has arrived on the attempt's HTTP/2 connection since the attempt began.
func (a *attempt) unanswered() bool {
	return a.shared && a.conn != nil && a.conn.SilentSince(a.start)
}

// cancelledAtDeadline reports whether err is the upstream's cancellation of a call whose deadline, which it knows from
// grpc-timeout, has passed or is about to. A deadline below minDeadline may have passed before the call reached the upstream.
func (a *attempt) cancelledAtDeadline(err error) bool {
	x := a.x
	if !x.hasDeadline() || !strings.Contains(err.Error(), "CANCEL") {
		return false
	}
	return x.hasShortDeadline() || x.nearDeadline()
}

// clientGone reports an attempt whose client is gone or was at fault itself. It counts neither as a success nor as a failure,
// unless breaker.abandoned_after says how long clients wait for a response.
func (a *attempt) clientGone() {
	x := a.x
	limit := x.route.Config.Breaker.AbandonedAfter
	if a.reported || context.Cause(a) != context.Canceled || x.upload.Aborted() || x.upload.Err() != nil || x.wasPaused() {
		a.cancelled()
		return
	}
	if waited := x.waited(); limit > 0 && a.status == 0 && waited >= limit && !x.upload.IsSlow() {
		a.failed(events.ErrorAbandoned, fmt.Errorf("the client gave up after %v without a response", waited.Round(time.Millisecond)))
		return
	}
	a.reported = true
	x.outcome.Result = events.ResultCancelled
	a.call.Abandon(a.took())
}

// cancelledByOther reports whether err is the cancellation of another exchange. http.Transport returns a connection to the
// pool before it has notified the last request that its response, one without a body, is complete. If that request is
// cancelled at this moment, the connection is closed under the next request.
func (a *attempt) cancelledByOther(err error) bool {
	return errors.Is(err, context.Canceled) && a.cause() == nil && !a.x.upload.Aborted()
}

// clientAtFault reports whether the client's body was malformed, or the client was gone or too slow, before anything else
// ended the exchange.
func (a *attempt) clientAtFault() bool {
	switch a.cause() {
	case nil:
		return a.x.upload.Err() != nil
	case errTimeout, errDeadline, errIdle, errReplayed, errUploadLost, errUnprocessed, errPaused: // the upload had no fault until then
		return false
	}
	return !a.leftAtDeadline()
}

// cause returns why the attempt's context ended. It is nil if the context has not ended, or only because net/http took the
// read that the transport gave up for the client's end.
func (a *attempt) cause() error {
	cause := context.Cause(a)
	if cause == context.Canceled && a.x.upload.Aborted() {
		return nil
	}
	return cause
}

// leftAtDeadline reports whether the caller cancelled because its own deadline had passed: the upstream was too slow then. The
// caller's clock may be a little ahead.
func (a *attempt) leftAtDeadline() bool {
	x := a.x
	return context.Cause(a) == context.Canceled && a.status == 0 && x.hasDeadline() &&
		!x.hasShortDeadline() && x.nearDeadline() && !x.wasPaused()
}

// answerFailure is ReverseProxy's error handler, for requests without a response of the upstream.
func answerFailure(_ http.ResponseWriter, out *http.Request, _ error) {
	if x := exchangeOf(out.Context()); !x.answerFailure() {
		x.attempt.cancelled()
		panic(http.ErrAbortHandler)
	}
}

// answerFailure answers instead of the upstream after an attempt without a response, or with one of which nothing has been
// sent. It reports false if the client is gone.
func (x *exchange) answerFailure() bool {
	if f := x.outcome.Failure; f != nil {
		x.fallback(service.ReasonOf(f.Type))
		return true
	}
	switch fault := x.upload.Err(); {
	case x.attempt.overload:
		x.fallback(events.ReasonOverload)
	case x.attempt.refused != nil:
		x.problem(x.attempt.refused)
	case context.Cause(x) == errSlowClient:
		x.problem(slowBody)
	case context.Cause(x) == errStalled && x.grpc != nil: // the caller may repeat it
		x.problem(unanswered[events.ReasonReset])
	case context.Cause(x) == errStalled:
		x.problem(stalledBody)
	case context.Cause(x) == errShortDeadline:
		x.problem(unanswered[events.ReasonTimeout])
	case fault == upload.ErrTooLarge:
		x.problem(bodyTooLarge)
	case fault != nil:
		x.problem(badBody) // a client that has stopped sending may still read
	case x.r.Context().Err() != nil:
		return false
	default: // another exchange was cancelled, see cancelledByOther
		x.fallback(events.ReasonReset)
	}
	return true
}

// stalled reports whether a reset is caused by a client that is slow to send its body. If the connection has ended, or the
// transport has closed the body, before the transport returned, the state at that time counts.
func (a *attempt) stalled() bool {
	b := &a.x.upload
	if a.status != 0 && a.x.grpc != nil {
		return false // either side of a call may be silent at any time
	}
	return b.WasStalling() || !b.Aborted() && b.IsStalling()
}
