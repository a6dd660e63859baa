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
	"cbproxy/internal/upstream"
)

// blame classifies a failed attempt and reports it.
func (a *attempt) blame(err error) {
	if a.clientAtFault() || a.crossed(err) {
		a.givenUp()
		return
	}
	switch cause := a.cause(); cause {
	case errPaused:
		a.failedLocally(events.LocalPause, cause)
	case errTimeout, errDeadline:
		if a.unanswered() {
			a.x.route.pool.RenewAfterSilence(a.start)
		}
		a.failed(events.ErrorTimeout, cause)
	case errIdle:
		a.failed(events.ErrorIdle, cause)
	case errReplayed, errLost, errUnprocessed:
		a.failed(events.ErrorReset, cause)
	case context.Canceled: // the caller's, at its deadline
		a.failed(events.ErrorTimeout, errDeadline)
	default:
		a.classify(err)
	}
}

// leastLargeHead is the size of a header section that every server takes.
const leastLargeHead = 4 << 10

// classify reports an error that nothing else than the transport has caused.
func (a *attempt) classify(err error) {
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
	case fault.Refused == http.StatusRequestHeaderFieldsTooLarge && message.HeaderSize(a.x.r) < leastLargeHead:
		a.overload = true // it can't be the header section that the upstream wants to have less of
		a.noVerdict(events.ResultRejected)
	case fault.Refused != 0:
		a.refused = unsendable[fault.Refused]
		a.cancelled()
	case a.x.wasPaused(): // what the upstream did meanwhile, it did to a client that took nothing
		a.failedLocally(events.LocalPause, err)
	case a.cancelledAtDeadline(err):
		if a.x.hurried() {
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

// unanswered reports whether nothing at all has come on the attempt's connection of HTTP/2 since the attempt began.
func (a *attempt) unanswered() bool {
	return a.shared && a.conn != nil && a.conn.SilentSince(a.start)
}

// cancelledAtDeadline reports whether err is the upstream's cancellation of a call whose deadline, which it knows from
// grpc-timeout, has passed or is about to. A deadline under leastDeadline may have passed before it came there.
func (a *attempt) cancelledAtDeadline(err error) bool {
	x := a.x
	if !x.hasDeadline() || !strings.Contains(err.Error(), "CANCEL") {
		return false
	}
	return x.hurried() || x.nearDeadline()
}

// nearDeadline reports whether the caller's deadline has passed or is about to: clocks differ a little.
func (x *exchange) nearDeadline() bool { return time.Since(x.start) >= x.grpc.timeout*9/10 }

// givenUp reports an attempt whose client has left, or was at fault itself. It counts neither as a success nor as a failure,
// unless the route says how long clients wait for a response.
func (a *attempt) givenUp() {
	x := a.x
	limit := x.route.config.Breaker.AbandonedAfter
	if a.reported || context.Cause(a) != context.Canceled || x.upload.aborted.Load() || x.upload.faulty() != nil || x.wasPaused() {
		a.cancelled()
		return
	}
	if waited := x.waited(); limit > 0 && a.status == 0 && waited >= limit && !x.upload.slow() {
		a.failed(events.ErrorAbandoned, fmt.Errorf("the client gave up after %v without a response", waited.Round(time.Millisecond)))
		return
	}
	a.reported = true
	x.outcome.Result = events.ResultCancelled
	a.call.Abandon(a.took())
}

// waited is for how long the exchange has waited for anything but its client.
func (x *exchange) waited() time.Duration {
	return time.Since(x.start) - time.Duration(x.upload.awaited.Load())
}

// crossed reports whether err is the cancellation of another exchange. http.Transport puts
// a connection back for the next request before it has told the last one that its response,
// one without a body, is complete; if that one's client leaves at this moment, the
// connection is closed under the next request.
func (a *attempt) crossed(err error) bool {
	return errors.Is(err, context.Canceled) && a.cause() == nil && !a.x.upload.aborted.Load()
}

// clientAtFault reports whether the client's body was faulty, or the client went away or
// was too slow, before anything else ended the exchange.
func (a *attempt) clientAtFault() bool {
	switch a.cause() {
	case nil:
		return a.x.upload.faulty() != nil
	case errTimeout, errDeadline, errIdle, errReplayed, errLost, errUnprocessed, errPaused: // the upload was well until then
		return false
	}
	return !a.leftAtDeadline()
}

// cause returns why the attempt's context ended, nil if it did not, or did so only because the
// transport's giving up looked to net/http like the client's leaving.
func (a *attempt) cause() error {
	cause := context.Cause(a)
	if cause == context.Canceled && a.x.upload.aborted.Load() {
		return nil
	}
	return cause
}

// leftAtDeadline reports whether the caller went away because the time that it had said it
// would wait was up, and not before: the upstream was too slow then. Its clock may be a
// little ahead of the exchange's.
func (a *attempt) leftAtDeadline() bool {
	x := a.x
	return context.Cause(a) == context.Canceled && a.status == 0 && x.hasDeadline() &&
		!x.hurried() && x.nearDeadline() && !x.wasPaused()
}

// reasonOf is the reason for a fallback after a failure.
func reasonOf(kind events.ErrorType) events.Reason {
	switch kind {
	case events.ErrorConnect:
		return events.ReasonConnect
	case events.ErrorTimeout, events.ErrorIdle:
		return events.ReasonTimeout
	case events.ErrorStatus:
		return events.ReasonStatus
	case "": // this machine's, or that of the request itself
		return events.ReasonOverload
	default:
		return events.ReasonReset
	}
}

// answerFailure is ReverseProxy's error handler: it gives the client what there is to give
// when there is no response of the upstream's.
func answerFailure(_ http.ResponseWriter, out *http.Request, _ error) {
	if x := exchangeOf(out.Context()); !x.answerFailure() {
		x.attempt.cancelled()
		panic(http.ErrAbortHandler)
	}
}

// answerFailure answers in place of the upstream after an attempt that has brought no response, or one of which nothing has
// been sent. It reports whether there was a client to be answered.
func (x *exchange) answerFailure() bool {
	if f := x.outcome.Failure; f != nil {
		x.fallback(reasonOf(f.Type))
		return true
	}
	switch fault := x.upload.faulty(); {
	case x.attempt.overload:
		x.fallback(events.ReasonOverload)
	case x.attempt.refused != nil:
		x.problem(x.attempt.refused)
	case context.Cause(x) == errSlowClient:
		x.problem(slowBody)
	case context.Cause(x) == errStalled && x.grpc != nil: // whose caller may repeat it
		x.problem(unanswered[events.ReasonReset])
	case context.Cause(x) == errStalled:
		x.problem(stalledBody)
	case context.Cause(x) == errHurried:
		x.problem(unanswered[events.ReasonTimeout])
	case fault == errBodyTooLarge:
		x.problem(bodyTooLarge)
	case fault != nil:
		x.problem(badBody) // a client that has only stopped sending still listens
	case x.r.Context().Err() != nil:
		return false
	default: // another exchange's cancellation crossed this one
		x.fallback(events.ReasonReset)
	}
	return true
}
