package service

import "cbproxy/internal/events"

// ReasonOf returns the fallback reason for a failure of type kind. "" is an error that does not count as a failure of the upstream.
func ReasonOf(kind events.ErrorType) events.Reason {
	switch kind {
	case events.ErrorConnect:
		return events.ReasonConnect
	case events.ErrorTimeout, events.ErrorIdle:
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
