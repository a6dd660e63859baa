package service

import (
	"errors"
	"net"
	"net/http"

	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
)

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
