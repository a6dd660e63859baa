package events

import "time"

// AccessRecord is what an access log and a tracer want to know of a request beyond its outcome. Its
// texts are the client's, byte for byte: they may hold anything, and be of any length that a
// request may have. For a request that reached no route, only State is without meaning and
// Service and Result are "". Of one that was refused before its header section was understood,
// there are Arrived, Client and Status.
type AccessRecord struct {
	Outcome
	// Arrived is when the proxy had the request's header section.
	Arrived time.Time
	// Method, Path, Query, Protocol and UserAgent are the request's; the path and the query are
	// raw.
	Method, Path, Query, Protocol, UserAgent string
	// Client is the address of the connection's other end, Host what the client asked for: a name or
	// an address, and perhaps a port.
	Client, Host string
	// Prefix is the route's prefix that the path matched, "" if none did.
	Prefix string
	// Status is the response's final status, 0 if none was sent.
	Status int
	// Truncated tells that the response was cut off before its end.
	Truncated bool
	// Upstream is the time from the decision to ask the upstream until its response was to be
	// passed on or there was none to be had: all attempts and the waits between them, and the
	// whole response where that is read before the client sees any of it. 0 if it was not asked.
	Upstream time.Duration
	// Header is the time until the response's header section was sent; 0 if none was.
	Header time.Duration
	// RequestBytes and ResponseBytes count what was received of the request's body and given to
	// the client of the response's, or of what went over a connection that was switched to
	// another protocol.
	RequestBytes, ResponseBytes int64
}

// AccessLog is told of every request while it is on. It must be safe for concurrent use and
// must not block.
type AccessLog interface {
	// Enabled reports whether anything may be logged. It is asked once a request.
	Enabled() bool
	// Log is called at most once a request, when its response has ended. a is valid only
	// during the call.
	Log(a *AccessRecord)
}
