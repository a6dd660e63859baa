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

// Fault is the class of a request's error. Exactly one of its fields is set.
type Fault struct {
	// Failure is the class of an upstream failure.
	Failure events.ErrorType
	// Local is the resource that this machine lacked. It counts neither as success nor as failure of the upstream.
	Local events.LocalError
	// Refused is the status for the client of a request that can't be sent as it is, or that the upstream refused
	// without regard to its own health: 400, 431 or 502. It counts neither as success nor as failure of the upstream.
	Refused int
}

// Progress is the stage at which a request failed.
type Progress int

// The stages of a request.
const (
	NotConnected Progress = iota // it has no connection yet
	Connected                    // there is no header section of a response yet
	Responded                    // the response's body is being read
)

// Classify returns the class of err, the error of a request that failed at stage p. The caller must have ruled out that the
// end of the request's context or an error of the client's body caused it.
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

// shortages are the system errors for an exhausted resource of this machine.
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

// localError returns what this machine lacked, if err reports a shortage. A *net.DNSError does not wrap the system's error, so its text is compared.
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
