package proxy

import (
	"math"
	"strconv"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// reject answers a request whose upstream may not be asked.
func (x *exchange) reject(reason events.Reason) {
	x.outcome.Result = events.ResultRejected
	x.fallback(reason)
}

// refuse answers a request that is at fault itself.
func (x *exchange) refuse(p *problem) {
	x.outcome.Result = events.ResultCancelled
	x.problem(p)
}

// problem writes p as the response of a routed request.
func (x *exchange) problem(p *problem) {
	x.answered = true
	h := x.w.Header()
	x.route.sign(h, x.outcome.State)
	x.endUpload(h)
	if x.grpc != nil {
		x.answerGRPC(p)
		return
	}
	p.write(x.w)
}

// fallback answers in the upstream's place: by the route's fallback if it has one for the
// reason and that has an answer, or else with a problem.
func (x *exchange) fallback(reason events.Reason) {
	h := x.w.Header()
	if at := x.route.service.breaker.RetryAt(); !at.IsZero() {
		h["Retry-After"] = []string{retryAfter(time.Until(at))}
	}
	a, strategy := x.answerOf(reason)
	if a == nil {
		x.problem(unanswered[reason])
		return
	}
	x.outcome.Strategy, x.outcome.Reason = strategy, reason
	if x.grpc != nil { // which can make nothing of any other answer
		h["X-Fallback"], h["X-Fallback-Reason"] = []string{strategy}, reasonHeaders[reason]
		x.problem(unanswered[reason])
		return
	}
	x.answered = true
	for name, values := range a.Header {
		h[name] = values
	}
	x.route.sign(h, x.outcome.State)
	x.endUpload(h)
	h["X-Fallback"] = []string{strategy}
	h["X-Fallback-Reason"] = reasonHeaders[reason]
	h["Proxy-Status"] = unanswered[reason].proxyStatus
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(a.Body) // a client that is gone misses nothing
}

func (x *exchange) answerOf(reason events.Reason) (*fallbacks.Answer, string) {
	if !x.route.answersFor(reason) {
		return nil, ""
	}
	a, strategy, err := x.route.chain.Answer(x.r.Context(), &fallbacks.Request{
		Client: x.r, Service: x.route.service.name, Reason: reason,
	})
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
