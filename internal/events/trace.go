package events

import "time"

// Tracer makes spans of what becomes of requests: one for each client's request, and below
// it one for each time an upstream is asked. It must be safe for concurrent use, and neither
// it nor its spans may block.
type Tracer interface {
	// Request begins the span of a client's request, of which a tells what is known at its start.
	// header is the request's header section: the trace that the client began is read from it, and
	// the span is written to it, for whoever the request is handed on to.
	Request(a *AccessRecord, header map[string][]string) RequestSpan
	// Delivery begins the span of an attempt to deliver a queued request. header is as for Request;
	// the trace goes on that it holds.
	Delivery(a *Attempt, header map[string][]string) AttemptSpan
}

// RequestSpan is the span of a client's request. Its methods are called on the request's
// goroutine, End last.
type RequestSpan interface {
	// IDs returns the trace's and the span's identifier in hexadecimal, "" if the span is not
	// recorded.
	IDs() (trace, span string)
	// Attempt begins the span of a request to the upstream, and writes it to header.
	Attempt(a *Attempt, header map[string][]string) AttemptSpan
	// Retry tells that there will be a further attempt after wait.
	Retry(wait time.Duration)
	// Rejected tells that the upstream may not be asked, and why.
	Rejected(state State, reason Reason)
	// Fallback tells which strategy answered, and why.
	Fallback(strategy string, reason Reason)
	// End is told what became of the request. a is valid only during the call.
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
	// State is the breaker's, which let the attempt pass.
	State State
	// Resends counts the attempts before it.
	Resends int
	Start   time.Time
	Method  string
	// URL is the request's, without its query, which may hold secrets; Host is its host and port.
	URL, Scheme, Host string
}

// AttemptEnd is what became of a request to an upstream.
type AttemptEnd struct {
	// Time is when the upstream had done its part or failed.
	Time time.Time
	// Status is the response's, 0 if there is none; Protocol is the one it came by, such as "HTTP/1.1".
	Status   int
	Protocol string
	// Peer is the address of the connection's other end, "" if there was none.
	Peer   string
	Result Result
	// Failure is how the upstream failed; nil if it did not.
	Failure *Failure
}
