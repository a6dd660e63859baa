package service

import (
	"errors"
	"net"
	"net/http"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
)

// ReasonOf returns the fallback reason for a failure of type kind. "" is an error that does not count as a failure of the upstream.
func ReasonOf(kind events.ErrorType) events.Reason {
	switch kind {
	case events.ErrorConnect:
		return events.ReasonConnect
	case events.ErrorTimeout, events.ErrorIdle, events.ErrorSlowStream:
		return events.ReasonTimeout
	case events.ErrorStatus, events.ErrorExpression:
		return events.ReasonStatus
	case "": // this machine lacked a resource, or the request cannot be sent
		return events.ReasonOverload
	default:
		return events.ReasonReset
	}
}

// MaxFailureDetail is the maximum length of events.Failure.Detail in bytes. The history stores the detail, which can contain text
// of the upstream of any length.
const MaxFailureDetail = 1 << 10

// RejectionReason returns the reason of a rejection by a breaker, whose error is err.
func RejectionReason(err error) events.Reason {
	switch err {
	case breaker.ErrHalfOpenLimit:
		return events.ReasonHalfOpenLimit
	case breaker.ErrThrottled:
		return events.ReasonThrottled
	case breaker.ErrRecovering:
		return events.ReasonRecovering
	}
	return events.ReasonOpen
}

// IsOverload reports whether a failure of the upstream with a type and an error means that it has more calls than it can serve, for
// max_in_flight: auto. status is that of its response, 0 if there is none. code is its gRPC status, if that is the failure.
//
// Calls that took too long, and responses that say so, are overloads. A refused or reset connection, a malformed or truncated response
// or another status, such as 500, may have any cause.
func IsOverload(kind events.ErrorType, err error, status int, code string) bool {
	switch kind {
	case events.ErrorTimeout, events.ErrorIdle, events.ErrorAbandoned, events.ErrorSlowStream:
		return true
	case events.ErrorConnect:
		var dial *net.OpError
		return errors.As(err, &dial) && dial.Timeout()
	case events.ErrorStatus:
		return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests || status == http.StatusGatewayTimeout
	case events.ErrorGRPC:
		return code == grpc.Unavailable.String() || code == grpc.ResourceExhausted.String() || code == grpc.DeadlineExceeded.String()
	}
	return false
}
