package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"

	"cbproxy/internal/events"
)

// proxyName is how the proxy names itself in Proxy-Status (RFC 9209).
const proxyName = "cbproxy"

// problem is an answer of the proxy's own, as RFC 9457 has it. It names no upstream
// address. It is never modified, so that it can be shared.
type problem struct {
	status      int
	detail      string
	body        []byte
	proxyStatus []string
	allow       string
}

// newProblem returns a problem; proxyError is an error type of RFC 9209, section 2.3.
func newProblem(status int, proxyError, detail string) *problem {
	body, _ := json.Marshal(struct { // strings and an int always marshal
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
	return &problem{
		status:      status,
		detail:      detail,
		body:        body,
		proxyStatus: proxyStatusValue(proxyError),
	}
}

func proxyStatusValue(proxyError string) []string {
	return []string{proxyName + "; error=" + proxyError}
}

var problemType = []string{"application/problem+json"}

// write sends the problem. Fields that the caller has set on w stay.
func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	h["Content-Type"] = problemType
	h["Content-Length"] = []string{strconv.Itoa(len(p.body))}
	h["Proxy-Status"] = p.proxyStatus
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body) // a client that is gone misses nothing
}

// What is said to requests that reach no route.
var (
	notFound        = newProblem(http.StatusNotFound, "destination_not_found", "no route has a prefix of this path")
	badPath         = newProblem(http.StatusBadRequest, "http_request_error", "the path has a dot segment, a NUL, a backslash or a number sign")
	headersTooLarge = newProblem(http.StatusRequestHeaderFieldsTooLarge, "http_request_error", "the header section is larger than limits.header_bytes")
	loopDetected    = newProblem(http.StatusLoopDetected, "proxy_loop_detected", "the request has passed through this proxy before: an upstream leads back to it")
	connectRefused  = func() *problem {
		p := newProblem(http.StatusMethodNotAllowed, "http_request_denied", "CONNECT is not proxied")
		p.allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
		return p
	}()
)

// What is said to a client whose own request was at fault, on a route.
var (
	bodyTooLarge = newProblem(http.StatusRequestEntityTooLarge, "http_request_error", "the body is larger than limits.body_bytes")
	badBody      = newProblem(http.StatusBadRequest, "http_request_error", "the body is malformed or ended early")
	stalledBody  = newProblem(http.StatusRequestTimeout, "http_request_error", "the service ended the connection before the body had arrived")
	slowBody     = newProblem(http.StatusRequestTimeout, "http_request_error", "the body did not arrive within the route's timeout")
)

// unsendable is what is said to a client whose request could not be sent as it is, or was refused by the upstream without
// regard to its own health, by status.
var unsendable = map[int]*problem{
	http.StatusBadRequest:                  newProblem(http.StatusBadRequest, "http_request_error", "the request has fields that can't be sent to the service"),
	http.StatusRequestHeaderFieldsTooLarge: newProblem(http.StatusRequestHeaderFieldsTooLarge, "http_request_error", "the service takes no header section as large as this"),
	http.StatusBadGateway:                  newProblem(http.StatusBadGateway, "http_protocol_error", "the protocol that the service speaks can't carry this request"),
}

// What is said when a service's upstream can't answer and no fallback does, by reason.
var unanswered = map[events.Reason]*problem{
	events.ReasonOpen:          newProblem(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable: its circuit breaker is open"),
	events.ReasonHalfOpenLimit: newProblem(http.StatusServiceUnavailable, "destination_unavailable", "the service is unavailable: its circuit breaker is testing recovery"),
	events.ReasonOverload:      newProblem(http.StatusServiceUnavailable, "connection_limit_reached", "the proxy is overloaded"),
	events.ReasonConnect:       newProblem(http.StatusBadGateway, "destination_unavailable", "no connection to the service"),
	events.ReasonTimeout:       newProblem(http.StatusGatewayTimeout, "http_response_timeout", "the service did not answer in time"),
	events.ReasonReset:         newProblem(http.StatusBadGateway, "http_response_incomplete", "the service's response broke off or was malformed"),
	events.ReasonStatus:        newProblem(http.StatusBadGateway, "http_protocol_error", "the service failed"),
}

// internalError is said when the proxy itself is at fault.
var internalError = newProblem(http.StatusBadGateway, "proxy_internal_error", "the proxy failed on this request")
