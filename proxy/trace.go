package proxy

import (
	"maps"
	"net/http"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

// span returns the span of the exchange's request, nil if it has none.
func (x *exchange) span() events.RequestSpan {
	if x.recorder != nil {
		return x.recorder.Span
	}
	return nil
}

// traced starts the attempt's span, if its request has one, and returns the request with the span's context in its header.
func (a *attempt) traced(out *http.Request) *http.Request {
	span := a.x.span()
	if span == nil {
		return out
	}
	clone := *out
	out = &clone
	out.Header = maps.Clone(out.Header) // the transport may still be writing the previous attempt's header
	begun := service.NewAttempt(out, a.x.route.Service.Name, a.call.State)
	begun.Endpoint, begun.Hedge = a.lease.URL, a.isHedge
	begun.Start, begun.Resends = a.start, a.x.outcome.Attempts-1
	a.trace = &service.AttemptTrace{Span: span.Attempt(begun, out.Header)}
	return out
}

// traceRetry records that there may be another attempt after wait.
func (a *attempt) traceRetry(wait time.Duration) {
	if a.trace == nil {
		return
	}
	if a.trace.End.Time.IsZero() {
		a.trace.ResponseEnded()
	}
	a.x.span().Retry(wait)
}

// endTrace ends the attempt's span. Its end time is that of the response if trace.ResponseEnded was called, and now otherwise.
func (a *attempt) endTrace() {
	if a.trace == nil {
		return
	}
	end := &a.trace.End
	if end.Time.IsZero() || a == a.x.attempt && (a.x.download.IsStream() || a.x.tunnel.Load() != nil) {
		end.Time = time.Now()
	}
	if end.Failure = a.failure; a.failure != nil {
		end.Time = a.failure.Time
	}
	end.Result = a.x.outcome.Result
	a.trace.Span.End(end)
	a.trace = nil
}
