package problem

import (
	"net/http"
	"slices"

	"cbproxy/internal/events"
)

// Responses of the request path to requests that reach no route.
var (
	NotFound       = New(http.StatusNotFound, "destination_not_found", "no route has a prefix of this path")
	BadPath        = New(http.StatusBadRequest, "http_request_error", "the path has a dot segment, a NUL, a backslash or a number sign")
	LoopDetected   = New(http.StatusLoopDetected, "proxy_loop_detected", "routing loop: the request has passed through this proxy before")
	ConnectRefused = New(http.StatusMethodNotAllowed, "http_request_denied", "CONNECT is not proxied").
			WithAllow("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
)

// Responses to requests that are invalid themselves.
var (
	HeadersTooLarge = New(http.StatusRequestHeaderFieldsTooLarge, "http_request_error", "the header section is larger than limits.header_bytes")
	BodyTooLarge    = New(http.StatusRequestEntityTooLarge, "http_request_error", "the body is larger than limits.body_bytes")
	BadBody         = New(http.StatusBadRequest, "http_request_error", "the body is malformed or ended early")
	StalledBody     = New(http.StatusRequestTimeout, "http_request_error", "the upstream ended the connection before the body had arrived")
	SlowBody        = New(http.StatusRequestTimeout, "http_request_error", "the body did not arrive within the route's timeout")
)

// ForRequest returns the response, by its status, to a request that can't be sent upstream as it is, or that the upstream rejected
// for its content.
func ForRequest(status int) *Problem { return forRequest[status] }

var forRequest = map[int]*Problem{
	http.StatusBadRequest:                  New(http.StatusBadRequest, "http_request_error", "the request has header fields that can't be sent to the upstream"),
	http.StatusRequestHeaderFieldsTooLarge: New(http.StatusRequestHeaderFieldsTooLarge, "http_request_error", "the upstream rejects header sections of this size"),
	http.StatusBadGateway:                  New(http.StatusBadGateway, "http_protocol_error", "the upstream's protocol version can't carry this request"),
}

// ByReason returns the response if neither the upstream nor a fallback has responded.
func ByReason(reason events.Reason) *Problem { return byReason[reason] }

var byReason = map[events.Reason]*Problem{
	events.ReasonOpen:          New(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable: its circuit breaker is open"),
	events.ReasonHalfOpenLimit: New(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable: its circuit breaker is testing recovery"),
	events.ReasonThrottled:     New(http.StatusServiceUnavailable, "destination_unavailable", "the service is overloaded: its circuit breaker rejects a share of the requests"),
	events.ReasonRecovering:    New(http.StatusServiceUnavailable, "destination_unavailable", "the service is recovering: its circuit breaker lets a growing share of the requests through"),
	events.ReasonOverload:      New(http.StatusServiceUnavailable, "connection_limit_reached", "the request can't be sent to the upstream at the moment"),
	events.ReasonConnect:       New(http.StatusBadGateway, "destination_unavailable", "cannot connect to the upstream"),
	events.ReasonTimeout:       New(http.StatusGatewayTimeout, "http_response_timeout", "the upstream did not respond in time"),
	events.ReasonReset:         New(http.StatusBadGateway, "http_response_incomplete", "the upstream's response was incomplete or malformed"),
	events.ReasonTest:          New(http.StatusServiceUnavailable, "destination_unavailable", "the request tests the fallback and is not sent to the upstream"),
	events.ReasonStatus:        New(http.StatusBadGateway, "http_protocol_error", "the upstream returned an error status"),
}

// NotSelected is the response if the fallback does not answer requests with the method or the Accept field of this one.
var NotSelected = New(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable, and its fallback does not answer such requests")

// Internal is the response when the proxy itself fails.
var Internal = New(http.StatusBadGateway, "proxy_internal_error", "internal error of the proxy")

// IsLoopDetected reports whether res is the response by which a cbproxy reports a routing loop.
func IsLoopDetected(res *http.Response) bool {
	return res.StatusCode == http.StatusLoopDetected && slices.Equal(res.Header["Proxy-Status"], LoopDetected.ProxyStatus())
}
