package proxy

import (
	"context"
	"math"
	"strconv"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/problem"
)

// reject answers a request whose upstream may not be asked.
func (x *exchange) reject(reason events.Reason) {
	x.outcome.Result = events.ResultRejected
	if span := x.span(); span != nil {
		span.Rejected(x.outcome.State, reason)
	}
	x.fallback(reason)
}

// refusedFor is the reason for which a breaker has refused a call with err.
func refusedFor(err error) events.Reason {
	if err == breaker.ErrHalfOpenLimit {
		return events.ReasonHalfOpenLimit
	}
	return events.ReasonOpen
}

// hold answers a request that must not pass those that are queued, whatever the fallback is for.
// failed is why the upstream can't take those, "" if it is only busy with them.
func (x *exchange) hold(failed events.Reason) {
	x.held = true
	switch x.outcome.State, x.retryAt = x.route.service.breaker.StateAndRetryAt(); {
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

// refuse answers a request that is at fault itself.
func (x *exchange) refuse(p *problem.Problem) {
	x.outcome.Result = events.ResultCancelled
	x.problem(p)
}

// problem writes p as the response of a routed request.
func (x *exchange) problem(p *problem.Problem) {
	x.answered = true
	h := x.w.Header()
	x.route.sign(h, x.outcome.State)
	x.endUpload(h)
	if x.grpc != nil {
		x.answerGRPC(p)
		return
	}
	p.Write(x.w)
}

// fallback answers in the upstream's place: by the route's fallback if it has one for the
// reason and that has an answer, or else with a problem.
func (x *exchange) fallback(reason events.Reason) {
	h := x.w.Header()
	at := x.retryAt
	if x.outcome.Result != events.ResultRejected { // its own failure may have opened the breaker
		at = x.route.service.breaker.RetryAt()
	}
	if !at.IsZero() {
		h["Retry-After"] = []string{retryAfter(time.Until(at))}
	}
	if x.grpc != nil {
		x.fallbackGRPC(reason)
		return
	}
	a, strategy := x.answerOf(reason)
	if a == nil {
		x.problem(unanswered[reason])
		return
	}
	x.answeredBy(strategy, reason)
	x.answered = true
	for name, values := range a.Header {
		h[name] = values
	}
	x.route.sign(h, x.outcome.State)
	x.endUpload(h)
	h["X-Fallback"] = []string{strategy}
	h["X-Fallback-Reason"] = reasonHeaders[reason]
	h["Proxy-Status"] = unanswered[reason].ProxyStatus()
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(a.Body) // a client that is gone misses nothing
}

// fallbackGRPC gives a gRPC caller what it can make something of, which is no strategy's
// answer. None is asked that would do something.
func (x *exchange) fallbackGRPC(reason events.Reason) {
	if x.route.answersFor(reason) {
		if strategy, ok := x.route.chain.Constant(); ok {
			h := x.w.Header()
			h["X-Fallback"], h["X-Fallback-Reason"] = []string{strategy}, reasonHeaders[reason]
			x.answeredBy(strategy, reason)
		}
	}
	x.problem(unanswered[reason])
}

// answeredBy notes that a fallback has answered.
func (x *exchange) answeredBy(strategy string, reason events.Reason) {
	x.outcome.Strategy, x.outcome.Reason = strategy, reason
	if span := x.span(); span != nil {
		span.Fallback(strategy, reason)
	}
}

func (x *exchange) answerOf(reason events.Reason) (*fallbacks.Answer, string) {
	if !x.held && !x.route.answersFor(reason) {
		return nil, ""
	}
	ctx := x.r.Context()
	if x.upload.left() {
		ctx = context.WithoutCancel(ctx) // net/http takes a read that was made to fail for the client's end; strategies have time limits
	}
	a, strategy, err := x.route.chain.Answer(ctx, questioner{x}, reason)
	if err != nil {
		x.route.logger.Warn("no fallback has an answer", "service", x.route.service.name, "reason", reason, "error", err)
		return nil, ""
	}
	return a, strategy
}

// The values of X-Fallback-Reason, ready to be put into a header.
var reasonHeaders = func() map[events.Reason][]string {
	values := make(map[events.Reason][]string, len(events.Reasons))
	for _, r := range events.Reasons {
		values[r] = []string{string(r)}
	}
	return values
}()

// retryAfter is a Retry-After of whole seconds, rounded up so that nobody comes too early.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}
