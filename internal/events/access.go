package events

import "time"

// AccessRecord is what an access log and a tracer record of a request in addition to its Outcome.
// Its strings are copied from the request without change: they may contain any bytes and be as
// long as a request allows. If no route matched, Service and Result are "" and State has no
// meaning. If the request was rejected before its header section was parsed, only Arrived, Client
// and Status are set.
type AccessRecord struct {
	Outcome
	// Arrived is when the request's header section had been received.
	Arrived time.Time
	// Method, Path, Query, Protocol and UserAgent are the request's; path and query are not decoded.
	Method, Path, Query, Protocol, UserAgent string
	// Client is the address of the connection's peer. Host is the request's host: a name or an
	// address, with an optional port.
	Client, Host string
	// Prefix is the route's prefix that the path matched, "" if none did.
	Prefix string
	// Status is the response's final status, 0 if none was sent.
	Status int
	// Truncated reports that the response was cut off before its end.
	Truncated bool
	// Upstream is the time from the decision to call the upstream until its response was passed on
	// or the last attempt failed. It includes all attempts and the waits between them, and the whole
	// response if that is read before any of it is sent to the client. It is 0 if the upstream was
	// not called.
	Upstream time.Duration
	// Header is the time until the response's header section was sent; 0 if none was.
	Header time.Duration
	// RequestBytes and ResponseBytes are the bytes received of the request's body and sent of the
	// response's body, or the bytes in each direction after the connection was switched to another
	// protocol.
	RequestBytes, ResponseBytes int64
}

// AccessLog logs requests. It must be safe for concurrent use and must not block.
type AccessLog interface {
	// Enabled reports whether requests may be logged. It is called once per request.
	Enabled() bool
	// Log is called at most once per request, when its response has ended. a is valid only during
	// the call.
	Log(a *AccessRecord)
}
