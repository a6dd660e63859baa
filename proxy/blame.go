package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"cbproxy/internal/events"
)

// blame finds out whose fault it is that there is no response, or no whole one, and
// reports it.
func (a *attempt) blame(err error) {
	if a.clientAtFault() || a.crossed(err) {
		a.cancelled()
		return
	}
	switch cause := a.cause(); cause {
	case errTimeout, errDeadline:
		a.failed(events.ErrorTimeout, cause)
	case errIdle:
		a.failed(events.ErrorIdle, cause)
	case errReplayed, errLost:
		a.failed(events.ErrorReset, cause)
	case context.Canceled: // the caller's, at its deadline
		a.failed(events.ErrorTimeout, errDeadline)
	default:
		kind := errorType(err, a.conns > 0, a.status != 0)
		if kind == events.ErrorProtocol && a.conn != nil && a.conn.ended.Load() {
			kind = events.ErrorReset // half a header section looks malformed
		}
		a.failed(kind, err)
	}
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
	case errTimeout, errDeadline, errIdle, errReplayed, errLost: // the upload was well until then
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
		x.grpc.deadlineError() == errDeadline && time.Since(x.start) >= x.grpc.timeout*9/10
}

// errorType classes a transport's error: before a connection, before a response's header
// section, or after it. net/http has no types for most of them.
func errorType(err error, connected, responded bool) events.ErrorType {
	var op *net.OpError
	switch {
	case !connected:
		return events.ErrorConnect
	case responded && errors.Is(err, io.ErrUnexpectedEOF):
		return events.ErrorTruncated
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.As(err, &op):
		return events.ErrorReset
	}
	text := err.Error()
	for _, broken := range []string{"server closed", "connection broken: EOF", "stream error", "GOAWAY", "client connection lost", "client connection force closed", "client conn could not be established"} {
		if strings.Contains(text, broken) {
			return events.ErrorReset
		}
	}
	return events.ErrorProtocol
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
	default:
		return events.ReasonReset
	}
}

// answerFailure is ReverseProxy's error handler: it gives the client what there is to give
// when there is no response of the upstream's.
func answerFailure(_ http.ResponseWriter, out *http.Request, _ error) {
	x := exchangeOf(out.Context())
	if f := x.outcome.Failure; f != nil {
		x.fallback(reasonOf(f.Type))
		return
	}
	switch fault := x.upload.faulty(); {
	case context.Cause(x) == errSlowClient:
		x.problem(slowBody)
	case context.Cause(x) == errHurried:
		x.problem(unanswered[events.ReasonTimeout])
	case fault == errBodyTooLarge:
		x.problem(bodyTooLarge)
	case fault != nil:
		x.problem(badBody) // a client that has only stopped sending still listens
	case x.r.Context().Err() != nil:
		x.attempt.cancelled()
		panic(http.ErrAbortHandler) // nobody is there to be answered
	default: // another exchange's cancellation crossed this one
		x.fallback(events.ReasonReset)
	}
}
