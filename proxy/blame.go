package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"cbproxy/internal/events"
)

// blame finds out whose fault it is that there is no response, or no whole one, and
// reports it.
func (x *exchange) blame(err error) {
	if x.clientAtFault() || x.crossed(err) {
		x.cancelled()
		return
	}
	switch cause := context.Cause(x); cause {
	case errTimeout:
		x.failed(events.ErrorTimeout, cause)
	case errIdle:
		x.failed(events.ErrorIdle, cause)
	case errReplayed, errLost:
		x.failed(events.ErrorReset, cause)
	default:
		x.failed(x.errorType(err), err)
	}
}

// crossed reports whether err is the cancellation of another exchange. http.Transport puts
// a connection back for the next request before it has told the last one that its response,
// one without a body, is complete; if that one's client leaves at this moment, the
// connection is closed under the next request.
func (x *exchange) crossed(err error) bool {
	return errors.Is(err, context.Canceled) && x.Err() == nil
}

// clientAtFault reports whether the client's body was faulty, or the client went away or
// was too slow, before anything else ended the exchange.
func (x *exchange) clientAtFault() bool {
	switch context.Cause(x) {
	case nil:
		return x.upload.faulty() != nil
	case errTimeout, errIdle, errReplayed, errLost: // the upload was well until then
		return false
	}
	return true
}

// errorType classes a transport's error. net/http has no types for most of them.
func (x *exchange) errorType(err error) events.ErrorType {
	var op *net.OpError
	switch {
	case x.conns == 0:
		return events.ErrorConnect
	case x.responded && errors.Is(err, io.ErrUnexpectedEOF):
		return events.ErrorTruncated
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.As(err, &op):
		return events.ErrorReset
	}
	text := err.Error()
	for _, broken := range []string{"server closed", "connection broken: EOF", "stream error", "GOAWAY", "client connection lost", "client connection force closed"} {
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
	case events.ErrorTimeout:
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
	case fault == errBodyTooLarge:
		x.problem(bodyTooLarge)
	case fault != nil:
		x.problem(badBody) // a client that has only stopped sending still listens
	case x.r.Context().Err() != nil:
		x.cancelled()
		panic(http.ErrAbortHandler) // nobody is there to be answered
	default: // another exchange's cancellation crossed this one
		x.fallback(events.ReasonReset)
	}
}
