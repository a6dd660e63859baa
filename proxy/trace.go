package proxy

import (
	"maps"
	"net"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

// attemptTrace is the span of a request to an upstream, and what it is told at its end. The
// methods of a nil *attemptTrace do nothing: most requests have none.
type attemptTrace struct {
	span events.AttemptSpan
	end  events.AttemptEnd
}

// span returns the span of the exchange's request, nil if it has none.
func (x *exchange) span() events.RequestSpan {
	if rec := x.record(); rec != nil {
		return rec.span
	}
	return nil
}

// traced begins the attempt's span, if its request has one, and returns the request that
// carries it on.
func (a *attempt) traced(out *http.Request) *http.Request {
	span := a.x.span()
	if span == nil {
		return out
	}
	out = out.WithContext(out.Context())
	out.Header = maps.Clone(out.Header) // the transport may still be writing the one of the attempt before
	begun := begunBy(out, a.x.route.service.name, a.call.State)
	begun.Start, begun.Resends = a.start, a.x.outcome.Attempts-1
	a.trace = &attemptTrace{span: span.Attempt(begun, out.Header)}
	return out
}

// tracedDelivery is traced for a queued request.
func (rt *route) tracedDelivery(out *http.Request, state events.State) *attemptTrace {
	if rt.tracer == nil {
		return nil
	}
	out.Header = maps.Clone(out.Header) // the queue keeps its own
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

// done notes that the upstream has done its part.
func (t *attemptTrace) done() {
	if t != nil {
		t.end.Time = time.Now()
	}
}

// traceRetry notes that there may be another attempt after wait.
func (a *attempt) traceRetry(wait time.Duration) {
	if a.trace == nil {
		return
	}
	if a.trace.end.Time.IsZero() {
		a.trace.done()
	}
	a.x.span().Retry(wait)
}

// endTrace ends the attempt's span. Where the end of what the upstream had to do was not
// seen, or may lie before the end of what it did, that is now.
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
