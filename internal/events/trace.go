package events

import "time"

// Tracer records spans: one for each client request, and below it one for each request to an
// upstream. It must be safe for concurrent use. Neither the tracer nor its spans may block.
type Tracer interface {
	// Request begins the span of a client request. a contains what is known when the request
	// begins. header is the request's header section: the client's trace context is read from it,
	// and the span's is written to it for the upstream.
	Request(a *AccessRecord, header map[string][]string) RequestSpan
	// Delivery begins the span of an attempt to deliver a queued request. header is as for Request;
	// the span continues the trace that it contains.
	Delivery(a *Attempt, header map[string][]string) AttemptSpan
}

// RequestSpan is the span of a client request. Its methods are called on the request's goroutine,
// End last.
type RequestSpan interface {
	// IDs returns the identifiers of the trace and of the span in hexadecimal, "" if the span is
	// not recorded.
	IDs() (trace, span string)
	// Attempt begins the span of a request to the upstream, and writes its context to header.
	Attempt(a *Attempt, header map[string][]string) AttemptSpan
	// Retry records that there will be a further attempt after wait.
	Retry(wait time.Duration)
	// Rejected records that the request is not sent to the upstream, and why.
	Rejected(state State, reason Reason)
	// Fallback records which strategy responded, and why.
	Fallback(strategy string, reason Reason)
	// End ends the span. a is valid only during the call.
	End(a *AccessRecord)
}

// AttemptSpan is the span of one request to an upstream. End is called once, on the request's
// goroutine.
type AttemptSpan interface {
	End(e *AttemptEnd)
}

// Attempt is what is known of a request to an upstream before it is sent.
type Attempt struct {
	Service string
	// State is the breaker's state when it admitted the attempt.
	State State
	// Resends is the number of earlier attempts.
	Resends int
	Start   time.Time
	Method  string
	// URL is the request's URL without its query, which may contain secrets. Host is its host and
	// port.
	URL, Scheme, Host string
	// Endpoint is EndpointStatus.URL of the endpoint that the request is sent to.
	Endpoint string
	// Hedge is whether the request is sent because an earlier attempt, which goes on, has not been answered.
	Hedge bool
}

// AttemptEnd is the result of a request to an upstream.
type AttemptEnd struct {
	// Time is when the upstream had responded completely or failed.
	Time time.Time
	// Status is the response's status, 0 if there was none. Protocol is its protocol, such as
	// "HTTP/1.1".
	Status   int
	Protocol string
	// Peer is the address of the connection's peer, "" if there was no connection.
	Peer   string
	Result Result
	// Failure is the upstream's failure; nil if it did not fail.
	Failure *Failure
	// HedgeWon is whether the response to a hedge is the client's, and not that to the earlier attempt.
	HedgeWon bool
	// FaultID and FaultKind are those of the injected fault that the request was drawn for; "" if there was none.
	FaultID   string
	FaultKind FaultKind
}
