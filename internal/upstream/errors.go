// Package upstream is what everything that sends requests to an upstream has in common: how a name is dialled, and what
// a failed request says of the upstream.
package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"cbproxy/internal/events"
)

// Fault is what the error of a request says. Exactly one of its fields is set.
type Fault struct {
	// Failure is how the upstream failed.
	Failure events.ErrorType
	// Local is what this machine lacked. It says nothing of the upstream.
	Local events.LocalError
	// Refused is the status for the client of a request that can't be sent as it is, or that the upstream refused
	// without regard to its own health: 400, 431 or 502. It says nothing of the upstream.
	Refused int
}

// Progress is how far a request had come when it failed.
type Progress int

// The stages of a request.
const (
	NotConnected Progress = iota // it has no connection yet
	Connected                    // there is no header section of a response yet
	Responded                    // the response's body is being read
)

// Classify returns what err says, the error of a request that had come as far as p. Neither the end of the request's
// context nor a fault of the client's body may be its cause.
func Classify(err error, p Progress) Fault {
	if local, ok := localError(err); ok {
		return Fault{Local: local}
	}
	if status := refusal(err, p); status != 0 {
		return Fault{Refused: status}
	}
	return Fault{Failure: errorType(err, p)}
}

// errorType returns the class of an upstream's failure. net/http has no types for most of its errors.
func errorType(err error, p Progress) events.ErrorType {
	var op *net.OpError
	switch {
	case p == NotConnected:
		return events.ErrorConnect
	case p == Responded && errors.Is(err, io.ErrUnexpectedEOF):
		return events.ErrorTruncated
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.As(err, &op):
		return events.ErrorReset
	case containsAny(err.Error(), "server closed", "connection broken: EOF", "stream error", "GOAWAY", "client connection lost",
		"client connection force closed", "client conn could not be established"):
		return events.ErrorReset
	}
	return events.ErrorProtocol
}

// refusal returns the status of Fault.Refused, 0 if err is no refusal. What a transport refuses to send, it refuses
// before it looks for a connection, or, over HTTP/2, before it writes to one.
func refusal(err error, p Progress) int {
	if p == NotConnected {
		if isDialError(err) {
			return 0
		}
		return http.StatusBadRequest
	}
	switch text := err.Error(); {
	case strings.Contains(text, "request header list larger than peer's advertised limit"), strings.Contains(text, "ENHANCE_YOUR_CALM"):
		return http.StatusRequestHeaderFieldsTooLarge
	case strings.Contains(text, "invalid Upgrade request header"), // HTTP/2 has no upgrades
		strings.Contains(text, "HTTP_1_1_REQUIRED"):
		return http.StatusBadGateway
	case strings.HasPrefix(text, "http2: invalid "):
		return http.StatusBadRequest
	}
	return 0
}

func isDialError(err error) bool {
	var (
		dial *DialError
		op   *net.OpError
		dns  *net.DNSError
	)
	return errors.As(err, &dial) || errors.As(err, &op) || errors.As(err, &dns)
}

// Unprocessed reports whether err says that the upstream has not processed the request, which may then be sent again
// whatever its method (RFC 9113, section 8.7): a stream that it refused, or one above the last stream of its GOAWAY. A
// request with a body that http.Transport would have sent again is among them if it has no GetBody.
func Unprocessed(err error) bool {
	return err != nil && containsAny(err.Error(), "REFUSED_STREAM", "graceful shutdown GOAWAY", "client conn not usable",
		"cannot rewind body after connection loss")
}

func containsAny(text string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// shortages are the errors by which the system reports that this machine has no more of something.
var shortages = []struct {
	errno syscall.Errno
	kind  events.LocalError
}{
	{syscall.EMFILE, events.LocalDescriptors},
	{syscall.ENFILE, events.LocalDescriptors},
	{syscall.EADDRNOTAVAIL, events.LocalPorts},
	{syscall.ENOBUFS, events.LocalBuffers},
	{syscall.ENOMEM, events.LocalMemory},
}

// localError returns what this machine lacked, if that is what err says. The resolver keeps no system error in its own.
func localError(err error) (events.LocalError, bool) {
	var dns *net.DNSError
	lookup := errors.As(err, &dns)
	for _, s := range shortages {
		if errors.Is(err, s.errno) || lookup && strings.Contains(dns.Err, s.errno.Error()) {
			return s.kind, true
		}
	}
	return "", false
}
