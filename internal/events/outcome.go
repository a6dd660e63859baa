package events

import "time"

// Outcome is the result of a client request, for metrics, logs and traces.
type Outcome struct {
	Service string
	Result  Result
	// State is the breaker's state when the request was admitted or rejected.
	State State
	// Failure is the upstream's failure in the last attempt; nil if it did not fail.
	Failure *Failure
	// Strategy is the strategy of the fallback that responded; "" if none did.
	Strategy string
	// Reason is why the request was rejected or the fallback responded; "" if neither is the case.
	Reason Reason
	// GRPCStatus is the code with which a gRPC call ended, such as "UNAVAILABLE"; "" if the request
	// was no gRPC call, or ended without a code.
	GRPCStatus string
	// Attempts is the number of requests sent to the upstream: the first, its retries and its hedges.
	Attempts int
	// Endpoint is EndpointStatus.URL of the endpoint whose response or failure was the result; "" if no request was sent.
	Endpoint string
	// Hedged reports that one of the attempts was a hedge: it was sent while another had not been answered.
	Hedged bool
	// RetryBudgetSpent reports that there was no further attempt because the retry budget was
	// exhausted.
	RetryBudgetSpent bool
	// Shed is the limit by which the request was shed; "" if it was not.
	Shed Shed
	// Duration is the time from the request's arrival to the end of its response.
	Duration time.Duration
	// TraceID and SpanID identify the request's span, in hexadecimal; "" if none is recorded.
	TraceID, SpanID string
}

// Result is the result of a client request, as it appears in the requests metric.
type Result string

// The results of a client request.
const (
	ResultSuccess   Result = "success"   // the upstream succeeded
	ResultFailure   Result = "failure"   // the upstream failed, whatever the client's response was
	ResultRejected  Result = "rejected"  // the request was not sent to the upstream
	ResultCancelled Result = "cancelled" // the client cancelled the request, or the request was invalid
)

// Results lists every result. It may only be appended to: see Code.
var Results = [...]Result{ResultSuccess, ResultFailure, ResultRejected, ResultCancelled}

// Reason is why the proxy responded instead of the upstream.
type Reason string

// The reasons, as they appear in X-Fallback-Reason and in the configuration.
const (
	ReasonOpen          Reason = "open"            // the breaker is open
	ReasonHalfOpenLimit Reason = "half_open_limit" // the breaker is half-open and has no permit left
	ReasonThrottled     Reason = "throttled"       // the breaker's algorithm rejects a share of the requests
	ReasonRecovering    Reason = "recovering"      // the breaker has closed and lets a growing share of the requests through
	ReasonConnect       Reason = "connect"         // no connection
	ReasonTimeout       Reason = "timeout"         // no response in time
	ReasonReset         Reason = "reset"           // the connection broke, or the response was malformed
	ReasonStatus        Reason = "status"          // the response's status is a failure
	ReasonOverload      Reason = "overload"        // the proxy shed the request or lacked local resources for it, or earlier queued requests are not delivered yet
	ReasonTest          Reason = "test"            // the client asked for a test of the fallback; not in the configuration or in a metric
)

// Reasons lists every reason but ReasonTest.
var Reasons = [...]Reason{
	ReasonOpen, ReasonHalfOpenLimit, ReasonThrottled, ReasonRecovering, ReasonConnect, ReasonTimeout, ReasonReset, ReasonStatus, ReasonOverload,
}

// Shed is the limit on requests in flight by which a request was shed.
type Shed string

// The limits on requests in flight.
const (
	ShedByRoute Shed = "route" // the route's max_in_flight
	ShedByProxy Shed = "proxy" // the limit of the whole proxy, or the part of it that the route's priority may use
)

// Sheds lists every limit.
var Sheds = [...]Shed{ShedByRoute, ShedByProxy}

// Observer observes one service's requests, mostly on each request's own goroutine. It must be
// safe for concurrent use and must not block.
type Observer interface {
	// Begin is called when a request has been routed, unless it is a test of the fallback.
	Begin()
	// Failed is called for each failure of the upstream in an attempt or a probe, and once for the
	// n slow calls that opened a breaker.
	Failed(kind ErrorType, n int)
	// FailedLocally is called for each attempt, probe or delivery that failed because this machine
	// lacked a resource.
	FailedLocally(kind LocalError)
	// Probed is called for each active probe.
	Probed(ok bool)
	// HealthChecked is called for each health check of an endpoint by probe.always, unless this machine was the cause of its
	// failure.
	HealthChecked(ok bool)
	// Hedged is called for each hedge, when it is known whether its response was used (won) or that of the other attempt.
	Hedged(won bool)
	// End is called once for each Begin, when the response has ended. o is valid only
	// during the call.
	End(o *Outcome)
}
