package events

import "time"

// Reason says why a fallback answered in an upstream's place.
type Reason string

// The reasons for a fallback, as they stand in X-Fallback-Reason and in configuration.
const (
	ReasonOpen          Reason = "open"            // the breaker is open
	ReasonHalfOpenLimit Reason = "half_open_limit" // the breaker probes, and its places are taken
	ReasonConnect       Reason = "connect"         // no connection
	ReasonTimeout       Reason = "timeout"         // no answer in time
	ReasonReset         Reason = "reset"           // the exchange broke off, or the answer made no sense
	ReasonStatus        Reason = "status"          // the answer's status is a failure
	ReasonOverload      Reason = "overload"        // the proxy shed the request or this machine could not carry it out, or the upstream has yet to take what was queued before it
)

// Reasons lists every reason.
var Reasons = [...]Reason{
	ReasonOpen, ReasonHalfOpenLimit, ReasonConnect, ReasonTimeout, ReasonReset, ReasonStatus, ReasonOverload,
}

// ErrorType is a class of upstream failure.
type ErrorType string

// The classes of upstream failure, as they stand in the failures metric.
const (
	ErrorConnect   ErrorType = "connect"   // no connection: refused, unreachable, no such host, TLS
	ErrorTimeout   ErrorType = "timeout"   // no answer within the route's timeout
	ErrorReset     ErrorType = "reset"     // the connection broke before the answer was whole
	ErrorProtocol  ErrorType = "protocol"  // a malformed response
	ErrorStatus    ErrorType = "status"    // a status in failure_statuses
	ErrorTruncated ErrorType = "truncated" // a response that ended before its length
	ErrorIdle      ErrorType = "idle"      // a stream silent for idle_timeout
	ErrorGRPC      ErrorType = "grpc"      // a listed gRPC code
	ErrorSSE       ErrorType = "sse"       // a listed server-sent event
	ErrorSlow      ErrorType = "slow"      // slower than slow_call_duration
	ErrorAbandoned ErrorType = "abandoned" // given up by its client after abandoned_after without a response
)

// ErrorTypes lists every class of failure.
var ErrorTypes = [...]ErrorType{
	ErrorConnect, ErrorTimeout, ErrorReset, ErrorProtocol, ErrorStatus,
	ErrorTruncated, ErrorIdle, ErrorGRPC, ErrorSSE, ErrorSlow, ErrorAbandoned,
}

// LocalError is what this machine lacked when it could not carry out a request. It says nothing of the upstream.
type LocalError string

// What a machine may lack, as it stands in the metric of local errors.
const (
	LocalDescriptors LocalError = "descriptors" // file descriptors: EMFILE, ENFILE
	LocalPorts       LocalError = "ports"       // local ports or addresses: EADDRNOTAVAIL
	LocalBuffers     LocalError = "buffers"     // network buffers: ENOBUFS
	LocalMemory      LocalError = "memory"      // kernel memory: ENOMEM
	LocalPause       LocalError = "pause"       // time: the process was stopped when a time limit passed
)

// LocalErrors lists everything a machine may lack.
var LocalErrors = [...]LocalError{LocalDescriptors, LocalPorts, LocalBuffers, LocalMemory, LocalPause}

// Result is how one client request ended, as it stands in the requests metric.
type Result string

// The results of a client request.
const (
	ResultSuccess   Result = "success"   // the upstream did its part
	ResultFailure   Result = "failure"   // the upstream failed, whatever the client was given
	ResultRejected  Result = "rejected"  // the upstream was not asked
	ResultCancelled Result = "cancelled" // the client went away, or its request was at fault
)

// Results lists every result.
var Results = [...]Result{ResultSuccess, ResultFailure, ResultRejected, ResultCancelled}

// Shed says which limit on requests in flight turned a request away.
type Shed string

// The limits on requests in flight.
const (
	ShedByRoute Shed = "route" // the route's max_in_flight
	ShedByProxy Shed = "proxy" // the whole proxy's, as far as the route's priority may use it
)

// Sheds lists every limit.
var Sheds = [...]Shed{ShedByRoute, ShedByProxy}

// Outcome is the one record of a client request, for metrics, logs and traces.
type Outcome struct {
	Service string
	Result  Result
	// State is the breaker's state that decided the request.
	State State
	// Failure is the upstream's failure in the last attempt; nil if it did not fail.
	Failure *Failure
	// Strategy and Reason are those of the fallback that answered; "" if none did.
	Strategy string
	Reason   Reason
	// GRPCStatus is the code that a gRPC call ended with, such as "UNAVAILABLE"; "" if it was none,
	// or ended without one.
	GRPCStatus string
	// Attempts counts the requests sent upstream: the first and its retries.
	Attempts int
	// RetryBudgetSpent tells that there was no further attempt because retries would have
	// exceeded their share of traffic.
	RetryBudgetSpent bool
	// Shed is the limit that turned the request away; "" if none did.
	Shed Shed
	// Duration is the time from the request's arrival to the end of its response.
	Duration time.Duration
	// TraceID and SpanID identify the request's span, in hexadecimal; "" if none is recorded.
	TraceID, SpanID string
}

// Observer is told of one service's requests, mostly on each request's own goroutine. It must be
// safe for concurrent use and must not block.
type Observer interface {
	// Begin is called when a request has found its route.
	Begin()
	// Failed is called for each failure of the upstream's, in an attempt or a probe, and once
	// for the n slow calls that opened a breaker.
	Failed(kind ErrorType, n int)
	// FailedLocally is called for each attempt, probe or delivery that this machine could not carry out.
	FailedLocally(kind LocalError)
	// Probed is called for each active probe.
	Probed(ok bool)
	// End is called once for each Begin, when the response has ended. o is valid only
	// during the call.
	End(o *Outcome)
}
