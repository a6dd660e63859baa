package proxy

import (
	"net/http"

	"cbproxy/internal/events"
	"cbproxy/internal/problem"
)

// Responses to requests that reach no route.
var (
	notFound       = problem.New(http.StatusNotFound, "destination_not_found", "no route has a prefix of this path")
	badPath        = problem.New(http.StatusBadRequest, "http_request_error", "the path has a dot segment, a NUL, a backslash or a number sign")
	loopDetected   = problem.New(http.StatusLoopDetected, "proxy_loop_detected", "routing loop: the request has passed through this proxy before")
	connectRefused = problem.New(http.StatusMethodNotAllowed, "http_request_denied", "CONNECT is not proxied").
			WithAllow("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
)

// Responses to requests on a route that are invalid themselves.
var (
	bodyTooLarge = problem.New(http.StatusRequestEntityTooLarge, "http_request_error", "the body is larger than limits.body_bytes")
	badBody      = problem.New(http.StatusBadRequest, "http_request_error", "the body is malformed or ended early")
	stalledBody  = problem.New(http.StatusRequestTimeout, "http_request_error", "the upstream ended the connection before the body had arrived")
	slowBody     = problem.New(http.StatusRequestTimeout, "http_request_error", "the body did not arrive within the route's timeout")
)

// requestProblems has the responses, by status, to requests that can't be sent upstream as they are, or that the upstream rejected
// for their content.
var requestProblems = map[int]*problem.Problem{
	http.StatusBadRequest:                  problem.New(http.StatusBadRequest, "http_request_error", "the request has header fields that can't be sent to the upstream"),
	http.StatusRequestHeaderFieldsTooLarge: problem.New(http.StatusRequestHeaderFieldsTooLarge, "http_request_error", "the upstream rejects header sections of this size"),
	http.StatusBadGateway:                  problem.New(http.StatusBadGateway, "http_protocol_error", "the upstream's protocol version can't carry this request"),
}

// problemByReason has the responses, by reason, if neither the upstream nor a fallback has responded.
var problemByReason = map[events.Reason]*problem.Problem{
	events.ReasonOpen:          problem.New(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable: its circuit breaker is open"),
	events.ReasonHalfOpenLimit: problem.New(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable: its circuit breaker is testing recovery"),
	events.ReasonThrottled:     problem.New(http.StatusServiceUnavailable, "destination_unavailable", "the service is overloaded: its circuit breaker rejects a share of the requests"),
	events.ReasonRecovering:    problem.New(http.StatusServiceUnavailable, "destination_unavailable", "the service is recovering: its circuit breaker lets a growing share of the requests through"),
	events.ReasonOverload:      problem.New(http.StatusServiceUnavailable, "connection_limit_reached", "the request can't be sent to the upstream at the moment"),
	events.ReasonConnect:       problem.New(http.StatusBadGateway, "destination_unavailable", "cannot connect to the upstream"),
	events.ReasonTimeout:       problem.New(http.StatusGatewayTimeout, "http_response_timeout", "the upstream did not respond in time"),
	events.ReasonReset:         problem.New(http.StatusBadGateway, "http_response_incomplete", "the upstream's response was incomplete or malformed"),
	events.ReasonStatus:        problem.New(http.StatusBadGateway, "http_protocol_error", "the upstream returned an error status"),
}

// notSelected is the response if the fallback does not answer requests with the method or the Accept field of this one.
var notSelected = problem.New(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable, and its fallback does not answer such requests")

// internalError is the response when the proxy itself fails.
var internalError = problem.New(http.StatusBadGateway, "proxy_internal_error", "internal error of the proxy")
