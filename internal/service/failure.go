package service

import (
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
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
