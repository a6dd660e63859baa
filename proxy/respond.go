package proxy

import (
	"context"
	"net/http"

	"cbproxy/internal/events"
	"cbproxy/internal/problem"
	"cbproxy/internal/requestlog"
	"cbproxy/internal/service"
	"cbproxy/internal/upload"
)

// reject responds to a request that the breaker, a limit or the queue does not admit.
func (x *exchange) reject(reason events.Reason) {
	x.outcome.Result = events.ResultRejected
	if span := x.span(); span != nil {
		span.Rejected(x.outcome.State, reason)
	}
	x.respondWithFallback(reason)
}

// respondToTest responds to a request that tests the fallback, whatever the state of the breaker.
func (x *exchange) respondToTest() {
	x.outcome.State, x.retryAt = x.route.Service.Breaker.StateAndRetryAt()
	x.outcome.Result = events.ResultRejected
	x.respondWithFallback(events.ReasonTest)
}

// rejectToKeepOrder responds to a request that must not overtake queued ones: with the fallback, even if that is not configured
// for the reason. failed is why the upstream can't take the queued requests, "" if they are merely waiting.
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

// respondInvalid responds to a request on a route that is itself invalid.
func (x *exchange) respondInvalid(p *problem.Problem) {
	x.outcome.Result = events.ResultCancelled
	x.writeProblem(p)
}

// writeProblem writes p as the response to a request on a route.
func (x *exchange) writeProblem(p *problem.Problem) {
	x.proxyResponded = true
	h := x.w.Header()
	x.route.SetStateFields(h, x.outcome.State)
	x.upload.PrepareResponse(h)
	if x.grpc != nil {
		x.writeGRPCProblem(p)
		return
	}
	p.Write(x.w)
}

// errorHandler is ReverseProxy's error handler, for requests without a response of the upstream.
func errorHandler(_ http.ResponseWriter, out *http.Request, _ error) {
	if x := exchangeOf(out.Context()); !x.respondAfterFailure() {
		x.attempt.reportCancelled()
		panic(http.ErrAbortHandler)
	}
}

// respondAfterFailure responds instead of the upstream after an attempt without a response, or with one of which nothing has been
// sent to the client. It reports false if the client is gone and no failure was recorded. After a failure the fallback is run in
// any case: a queue accepts a request whose body is complete even if its client has left.
func (x *exchange) respondAfterFailure() bool {
	if f := x.outcome.Failure; f != nil {
		x.respondWithFallback(service.ReasonOf(f.Type))
		return true
	}
	switch err := x.upload.Err(); {
	case x.attempt.rejectedForLoad:
		x.respondWithFallback(events.ReasonOverload)
	case x.attempt.requestProblem != nil:
		x.writeProblem(x.attempt.requestProblem)
	case context.Cause(x) == errSlowClient:
		x.writeProblem(problem.SlowBody)
	case context.Cause(x) == errStalled && x.grpc != nil: // the caller may repeat it
		x.writeProblem(problem.ByReason(events.ReasonReset))
	case context.Cause(x) == errStalled:
		x.writeProblem(problem.StalledBody)
	case context.Cause(x) == errDeadlineTooShort:
		x.writeProblem(problem.ByReason(events.ReasonTimeout))
	case err == upload.ErrTooLarge:
		x.writeProblem(problem.BodyTooLarge)
	case err != nil:
		x.writeProblem(problem.BadBody) // a client that has stopped sending may still read
	case x.r.Context().Err() != nil:
		return false
	default: // another exchange was cancelled, see cancelledByOther
		x.respondWithFallback(events.ReasonReset)
	}
	return true
}

// respondUnrouted responds to a request that is invalid or matches no route.
func respondUnrouted(w http.ResponseWriter, p *problem.Problem) {
	p.Write(w)
	if rec, ok := w.(*requestlog.Recorder); ok {
		rec.ReportUnrouted()
	}
}

// respondToIncompleteUpload responds to a request whose body was to be read before admission and did not arrive.
func (x *exchange) respondToIncompleteUpload() {
	switch err := x.upload.Err(); {
	case context.Cause(x) == errPaused:
		x.respondWithFallback(events.ReasonOverload)
	case context.Cause(x) == errSlowClient:
		x.writeProblem(problem.SlowBody)
	case err == upload.ErrTooLarge:
		x.writeProblem(problem.BodyTooLarge)
	case err == nil && x.r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	default:
		x.writeProblem(problem.BadBody)
	}
}

// replaceResponse responds instead of an upstream's response that ended early, before any of it was sent to the client. It
// reports whether it did: not if the client is gone.
func (x *exchange) replaceResponse() bool {
	if !x.writer.Stop() || x.attempt == nil || x.r.Context().Err() != nil {
		return false
	}
	x.StopTimer()
	clear(x.w.Header())
	return x.respondAfterFailure()
}
