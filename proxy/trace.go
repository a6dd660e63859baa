package proxy

import (
	"maps"
	"net"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// attemptTrace is the span of a request to an upstream, and its attributes. The methods of a nil *attemptTrace do nothing:
// most requests have none.
type attemptTrace struct {
	span events.AttemptSpan
	end  events.AttemptEnd
}

// span returns the span of the exchange's request, nil if it has none.
func (x *exchange) span() events.RequestSpan {
	if rec := x.recorder(); rec != nil {
		return rec.span
	}
	return nil
}

// traced starts the attempt's span, if its request has one, and returns the request with the span's context in its header.
func (a *attempt) traced(out *http.Request) *http.Request {
	span := a.x.span()
	if span == nil {
		return out
	}
	out = out.WithContext(out.Context())
	out.Header = maps.Clone(out.Header) // the transport may still be writing the previous attempt's header
	begun := begunBy(out, a.x.route.service.name, a.call.State)
	begun.Start, begun.Resends = a.start, a.x.outcome.Attempts-1
	a.trace = &attemptTrace{span: span.Attempt(begun, out.Header)}
	return out
}

// tracedDelivery starts the span of a delivery.
func (rt *route) tracedDelivery(out *http.Request, state events.State) *attemptTrace {
	if rt.tracer == nil {
		return nil
	}
	out.Header = maps.Clone(out.Header) // the queue keeps the original
	return &attemptTrace{span: rt.tracer.Delivery(begunBy(out, rt.service.name, state), out.Header)}
}

func begunBy(out *http.Request, service string, state events.State) *events.Attempt {
	u := out.URL
	return &events.Attempt{
		Service: service, State: state, Start: time.Now(), Method: out.Method,
		URL: u.Scheme + "://" + u.Host + u.EscapedPath(), Scheme: u.Scheme, Host: u.Host,
	}
}

func (t *attemptTrace) connected(c net.Conn) {
	if t != nil {
		t.end.Peer = c.RemoteAddr().String()
	}
}

func (t *attemptTrace) answered(res *http.Response) {
	if t != nil {
		t.end.Status, t.end.Protocol = res.StatusCode, res.Proto
	}
}

// done records the end of the response.
func (t *attemptTrace) done() {
	if t != nil {
		t.end.Time = time.Now()
	}
}

// traceRetry records that there may be another attempt after wait.
func (a *attempt) traceRetry(wait time.Duration) {
	if a.trace == nil {
		return
	}
	if a.trace.end.Time.IsZero() {
		a.trace.done()
	}
	a.x.span().Retry(wait)
}

// endTrace ends the attempt's span, now unless done was called earlier.
func (a *attempt) endTrace() {
	if a.trace == nil {
		return
	}
	end := &a.trace.end
	if end.Time.IsZero() || a.x.download.stream || a.x.tunnel.Load() != nil {
		end.Time = time.Now()
	}
	if end.Failure = a.failure; a.failure != nil {
		end.Time = a.failure.Time
	}
	end.Result = a.x.outcome.Result
	a.trace.span.End(end)
	a.trace = nil
}

// delivered ends the span of a delivery.
func (t *attemptTrace) delivered(result events.Result, f *events.Failure) {
	if t == nil {
		return
	}
	t.end.Time, t.end.Result, t.end.Failure = time.Now(), result, f
	t.span.End(&t.end)
}
