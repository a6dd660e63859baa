package service

import (
	"maps"
	"net"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// AttemptTrace is the span of a request to an upstream, and its attributes. The methods of a nil *AttemptTrace do nothing:
// most requests have none.
type AttemptTrace struct {
	Span    events.AttemptSpan
	Outcome events.AttemptEnd
}

// tracedDelivery starts the span of a delivery.
func (rt *Route) tracedDelivery(out *http.Request, state events.State) *AttemptTrace {
	if rt.tracer == nil {
		return nil
	}
	out.Header = maps.Clone(out.Header) // the queue keeps the original
	return &AttemptTrace{Span: rt.tracer.Delivery(NewAttempt(out, rt.Service.Name, state), out.Header)}
}

// NewAttempt returns what is known of a request to an upstream at its start.
func NewAttempt(out *http.Request, service string, state events.State) *events.Attempt {
	u := out.URL
	return &events.Attempt{
		Service: service, State: state, Start: time.Now(), Method: out.Method,
		URL: u.Scheme + "://" + u.Host + u.EscapedPath(), Scheme: u.Scheme, Host: u.Host,
	}
}

// Connected records the peer of the connection that the request was given.
func (t *AttemptTrace) Connected(c net.Conn) {
	if t != nil {
		t.Outcome.Peer = c.RemoteAddr().String()
	}
}

// Answered records the status and the protocol of the response.
func (t *AttemptTrace) ResponseReceived(res *http.Response) {
	if t != nil {
		t.Outcome.Status, t.Outcome.Protocol = res.StatusCode, res.Proto
	}
}

// Done records the end of the response.
func (t *AttemptTrace) ResponseEnded() {
	if t != nil {
		t.Outcome.Time = time.Now()
	}
}

// delivered ends the span of a delivery.
func (t *AttemptTrace) delivered(result events.Result, f *events.Failure) {
	if t == nil {
		return
	}
	t.Outcome.Time, t.Outcome.Result, t.Outcome.Failure = time.Now(), result, f
	t.Span.End(&t.Outcome)
}
