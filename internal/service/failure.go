package service

import (
	"cbproxy/internal/events"
)

// ReasonOf returns the reason for a fallback after a failure.
func ReasonOf(kind events.ErrorType) events.Reason {
	switch kind {
	case events.ErrorConnect:
		return events.ReasonConnect
	case events.ErrorTimeout, events.ErrorIdle:
		return events.ReasonTimeout
	case events.ErrorStatus:
		return events.ReasonStatus
	case "": // a shortage of this machine, or the request itself
		return events.ReasonOverload
	default:
		return events.ReasonReset
	}
}

// MaxFailureDetail bounds the details of a failure in bytes: the history keeps them, and they may quote the upstream.
const MaxFailureDetail = 1 << 10
