package service

import (
	"maps"
	"net"
	"net/http"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
)

// AttemptTrace is the span of a request to an upstream, and the attributes to end it with. The methods of a nil *AttemptTrace do
// nothing, because most requests are not traced.
type AttemptTrace struct {
	Span events.AttemptSpan
	End  events.AttemptEnd
}

// traceDelivery starts the span of a delivery to an endpoint and adds its context to the header of out. It returns nil if there is no tracer.
func (rt *Route) traceDelivery(out *http.Request, endpoint string, state events.State) *AttemptTrace {
	if rt.tracer == nil {
		return nil
	}
	out.Header = maps.Clone(out.Header) // the queue stores the original
	begun := NewAttempt(out, rt.Service.Name, state)
	begun.Endpoint = endpoint
	return &AttemptTrace{Span: rt.tracer.Delivery(begun, out.Header)}
}

// NewAttempt returns the attributes of a request to an upstream that are known when it starts.
func NewAttempt(out *http.Request, service string, state events.State) *events.Attempt {
	u := out.URL
	return &events.Attempt{
		Service: service, State: state, Start: time.Now(), Method: out.Method,
		URL: u.Scheme + "://" + u.Host + u.EscapedPath(), Scheme: u.Scheme, Host: u.Host,
	}
}

// Connected records the peer of c, the connection that the request is sent on.
func (t *AttemptTrace) Connected(c net.Conn) {
	if t != nil {
		t.End.Peer = c.RemoteAddr().String()
	}
}

// FaultInjected records the fault that is injected into the request; nil: none.
func (t *AttemptTrace) FaultInjected(f *fault.Fault) {
	if t != nil {
		t.End.FaultID, t.End.FaultKind = f.Labels()
	}
}

// ResponseReceived records the status and the protocol of the response.
func (t *AttemptTrace) ResponseReceived(res *http.Response) {
	if t != nil {
		t.End.Status, t.End.Protocol = res.StatusCode, res.Proto
	}
}

// ResponseEnded records the time at which the response ended.
func (t *AttemptTrace) ResponseEnded() {
	if t != nil {
		t.End.Time = time.Now()
	}
}

// endDelivery ends the span of a delivery.
func (t *AttemptTrace) endDelivery(result events.Result, f *events.Failure) {
	if t == nil {
		return
	}
	t.End.Time, t.End.Result, t.End.Failure = time.Now(), result, f
	t.Span.End(&t.End)
}
