package proxy

import (
	"context"
	"errors"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/internal/service"
)

// respondWithFallback responds instead of the upstream: with the route's fallback if it has one for reason and a strategy
// answers, and otherwise with a problem.
func (x *exchange) respondWithFallback(reason events.Reason) {
	if x.Started() {
		x.StopTimer() // strategies have time limits of their own, and one that uses the request's body may wait for it
	}
	h := x.w.Header()
	at := x.retryAt
	if x.outcome.Result == events.ResultRejected {
		x.outcome.Reason = reason // even if there is no fallback for it
	} else { // the request's own failure may have opened the breaker
		at = x.route.RetryAt(x.r.Header)
	}
	if !at.IsZero() {
		h["Retry-After"] = []string{message.FormatRetryAfter(time.Until(at))}
	}
	if x.grpc != nil {
		x.respondWithGRPCFallback(reason)
		return
	}
	a, strategy, p := x.runChain(reason)
	if a == nil {
		x.writeProblem(p)
		return
	}
	x.recordFallback(strategy, reason)
	x.proxyResponded = true
	for name, values := range a.Header {
		h[name] = values
	}
	x.route.SetStateFields(h, x.outcome.State)
	x.upload.PrepareResponse(h)
	service.SetFallbackFields(h, strategy, reason)
	h["Proxy-Status"] = problem.ByReason(reason).ProxyStatus()
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(a.Body) // the client may be gone
}

// respondWithGRPCFallback responds to a gRPC call. No strategy's answer is a gRPC message, so it only sets the header fields of a
// constant strategy; strategies with side effects are not called.
func (x *exchange) respondWithGRPCFallback(reason events.Reason) {
	if x.route.HasFallbackFor(reason) && !x.isAbandoned() {
		if strategy, ok := x.route.Chain.Constant(); ok {
			service.SetFallbackFields(x.w.Header(), strategy, reason)
			x.recordFallback(strategy, reason)
		}
	}
	x.writeProblem(problem.ByReason(reason))
}

// runChain returns the answer of the route's fallback chain, and the strategy that gave it, or a problem if there is no answer. The
// request of a client that has left can only be stored.
func (x *exchange) runChain(reason events.Reason) (*fallbacks.Answer, string, *problem.Problem) {
	if !x.mustQueue && !x.route.HasFallbackFor(reason) {
		return nil, "", problem.ByReason(reason)
	}
	ctx := x.r.Context()
	if x.upload.Incomplete() {
		ctx = context.WithoutCancel(ctx) // net/http cancels the request's context when a read of the body fails; strategies have time limits
	}
	answer := x.route.Chain.Answer
	if x.isAbandoned() {
		answer = x.route.Chain.Store
	}
	a, strategy, err := answer(ctx, fallbackClient{x}, reason)
	if err != nil {
		x.route.Logger.Warn("no fallback strategy answered", "service", x.route.Service.Name, "reason", reason, "error", err)
		if errors.Is(err, fallbacks.ErrNotSelected) {
			return nil, "", problem.NotSelected
		}
	}
	return a, strategy, problem.ByReason(reason)
}

// isAbandoned reports whether the client has left, which counts as a failure of the upstream.
func (x *exchange) isAbandoned() bool {
	f := x.outcome.Failure
	return f != nil && f.Type == events.ErrorAbandoned
}

// recordFallback records which strategy has answered.
func (x *exchange) recordFallback(strategy string, reason events.Reason) {
	x.outcome.Strategy, x.outcome.Reason = strategy, reason
	if span := x.span(); span != nil {
		span.Fallback(strategy, reason)
	}
}

// fallbackClient gives a fallback chain access to the request that it answers.
type fallbackClient struct{ *exchange }

// Method implements fallbacks.Client.
func (c fallbackClient) Method() string { return c.r.Method }

// Accept implements fallbacks.Client.
func (c fallbackClient) Accept() []string { return c.r.Header["Accept"] }

// Request implements fallbacks.Client.
func (c fallbackClient) Request() *fallbacks.Request {
	r := c.fallbackRequest()
	if c.isTest {
		delete(r.Header, message.FallbackTestField) // a strategy's upstream may be a cbproxy, which must not test its own fallback
	}
	return r
}

// Body implements fallbacks.Client.
func (c fallbackClient) Body(limit int64) ([]byte, error) { return c.upload.ReadRest(limit) }

// recordingClient gives a fallback chain access to the request whose response it may record.
type recordingClient struct{ *attempt }

// Method implements fallbacks.Client.
func (c recordingClient) Method() string { return c.x.r.Method }

// Accept implements fallbacks.Client.
func (c recordingClient) Accept() []string { return c.x.r.Header["Accept"] }

// Request implements fallbacks.Client.
func (c recordingClient) Request() *fallbacks.Request {
	r := c.x.fallbackRequest()
	r.Sent = c.start
	return r
}

// Body implements fallbacks.Client.
func (c recordingClient) Body(limit int64) ([]byte, error) { return c.x.upload.Complete(limit) }

func (x *exchange) fallbackRequest() *fallbacks.Request {
	return &fallbacks.Request{
		Service: x.route.Service.Name, Method: x.r.Method, Host: x.r.Host,
		Path: message.RawPath(x.r), Rest: x.upstreamPath, Query: x.r.URL.RawQuery, EmptyQuery: x.r.URL.ForceQuery, Header: x.endToEndHeader(),
		Upgrade: x.r.Header.Get("Upgrade"),
	}
}
