package proxy

import (
	"context"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/internal/upstream"
)

// reject answers a request that must not be sent to the upstream.
func (x *exchange) reject(reason events.Reason) {
	x.outcome.Result = events.ResultRejected
	if span := x.span(); span != nil {
		span.Rejected(x.outcome.State, reason)
	}
	x.respondWithFallback(reason)
}

// refusedFor returns the reason for a breaker's error.
func rejectionReason(err error) events.Reason {
	if err == breaker.ErrHalfOpenLimit {
		return events.ReasonHalfOpenLimit
	}
	return events.ReasonOpen
}

// rejectBehindQueue answers a request that must not overtake queued ones, by the fallback even if it is not configured for the
// reason. failed is why the upstream can't take the queued requests, "" if they are merely waiting.
func (x *exchange) rejectToKeepOrder(failed events.Reason) {
	x.mustQueue = true
	switch x.outcome.State, x.retryAt = x.route.Service.Breaker.StateAndRetryAt(); {
	case x.outcome.State == events.Open:
		x.reject(events.ReasonOpen)
	case x.outcome.State == events.HalfOpen:
		x.reject(events.ReasonHalfOpenLimit)
	case failed != "":
		x.reject(failed)
	default:
		x.reject(events.ReasonOverload)
	}
}

// refuse answers a request that is invalid itself.
func (x *exchange) respondInvalid(p *problem.Problem) {
	x.outcome.Result = events.ResultCancelled
	x.writeProblem(p)
}

// problem writes p as the response to a request on a route.
func (x *exchange) writeProblem(p *problem.Problem) {
	x.responded = true
	h := x.w.Header()
	x.route.SetStateFields(h, x.outcome.State)
	x.upload.PrepareResponse(h)
	if x.grpc != nil {
		x.writeGRPCProblem(p)
		return
	}
	p.Write(x.w)
}

// fallback answers instead of the upstream: with the route's fallback if it has one for reason and that has an answer, and
// otherwise with a problem.
func (x *exchange) respondWithFallback(reason events.Reason) {
	h := x.w.Header()
	at := x.retryAt
	if x.outcome.Result != events.ResultRejected { // the request's own failure may have opened the breaker
		at = x.route.Service.Breaker.RetryAt()
	}
	if !at.IsZero() {
		h["Retry-After"] = []string{retryAfter(time.Until(at))}
	}
	if x.grpc != nil {
		x.respondWithGRPCFallback(reason)
		return
	}
	a, strategy := x.runChain(reason)
	if a == nil {
		x.writeProblem(problemByReason[reason])
		return
	}
	x.recordFallback(strategy, reason)
	x.responded = true
	for name, values := range a.Header {
		h[name] = values
	}
	x.route.SetStateFields(h, x.outcome.State)
	x.upload.PrepareResponse(h)
	h["X-Fallback"] = []string{strategy}
	h["X-Fallback-Reason"] = reasonHeaders[reason]
	h["Proxy-Status"] = problemByReason[reason].ProxyStatus()
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(a.Body) // the client may be gone
}

// fallbackGRPC answers a gRPC call. No strategy's answer is a gRPC message, so it only sets the header fields of a constant
// strategy; strategies with side effects are not called.
func (x *exchange) respondWithGRPCFallback(reason events.Reason) {
	if x.route.HasFallbackFor(reason) {
		if strategy, ok := x.route.Chain.Constant(); ok {
			h := x.w.Header()
			h["X-Fallback"], h["X-Fallback-Reason"] = []string{strategy}, reasonHeaders[reason]
			x.recordFallback(strategy, reason)
		}
	}
	x.writeProblem(problemByReason[reason])
}

// answeredBy records that a fallback has answered.
func (x *exchange) recordFallback(strategy string, reason events.Reason) {
	x.outcome.Strategy, x.outcome.Reason = strategy, reason
	if span := x.span(); span != nil {
		span.Fallback(strategy, reason)
	}
}

func (x *exchange) runChain(reason events.Reason) (*fallbacks.Answer, string) {
	if !x.mustQueue && !x.route.HasFallbackFor(reason) {
		return nil, ""
	}
	ctx := x.r.Context()
	if x.upload.Incomplete() {
		ctx = context.WithoutCancel(ctx) // net/http takes the failed read for the client's end; strategies have time limits
	}
	a, strategy, err := x.route.Chain.Answer(ctx, fallbackClient{x}, reason)
	if err != nil {
		x.route.Logger.Warn("no fallback has an answer", "service", x.route.Service.Name, "reason", reason, "error", err)
		return nil, ""
	}
	return a, strategy
}

// reasonHeaders are the values of X-Fallback-Reason, allocated once.
var reasonHeaders = func() map[events.Reason][]string {
	values := make(map[events.Reason][]string, len(events.Reasons))
	for _, r := range events.Reasons {
		values[r] = []string{string(r)}
	}
	return values
}()

// retryAfter returns the value of a Retry-After field: whole seconds, rounded up so that no client retries too early.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// fallbackClient is the client of a request that a chain of fallbacks answers.
type fallbackClient struct{ *exchange }

// Request implements fallbacks.Client.
func (q fallbackClient) Request() *fallbacks.Request { return q.fallbackRequest(q.endToEndHeader()) }

// Body implements fallbacks.Client.
func (q fallbackClient) Body(limit int64) ([]byte, error) { return q.upload.ReadRest(limit) }

// recordingClient is the client of a request whose response a chain of fallbacks may record.
type recordingClient struct{ *attempt }

// Request implements fallbacks.Client.
func (e recordingClient) Request() *fallbacks.Request { return e.x.fallbackRequest(e.requestHeader) }

// Body implements fallbacks.Client.
func (e recordingClient) Body(limit int64) ([]byte, error) { return e.x.upload.Complete(limit) }

func (x *exchange) fallbackRequest(header http.Header) *fallbacks.Request {
	return &fallbacks.Request{
		Service: x.route.Service.Name, Method: x.r.Method, Host: x.r.Host,
		Path: message.RawPath(x.r), Rest: x.upstreamPath, Query: x.r.URL.RawQuery, EmptyQuery: x.r.URL.ForceQuery, Header: header,
	}
}

// endToEnd returns the fields of a client's request as ReverseProxy and rewrite send them upstream, without those that frame
// or announce a body. It shares their values.
func (x *exchange) endToEndHeader() http.Header {
	r := x.r
	h := maps.Clone(r.Header)
	upstream.RemoveHopByHop(h)
	for name := range h {
		if message.IsProxyField(name) {
			delete(h, name)
		}
	}
	delete(h, "Content-Length")
	delete(h, "Expect")
	message.SetForwarded(h, r)
	x.route.Via.Add(h, r)
	return h
}
