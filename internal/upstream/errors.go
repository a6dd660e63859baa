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

// An error becomes what clients and operators see in these steps:
//
//  1. A transport returns an error, mostly without a type: http.Transport, internal/http1.Transport or the dialer.
//  2. Classify, in this file, returns its ErrorClass: an upstream failure (an events.ErrorType), an exhausted local resource (an
//     events.LocalError), or a problem with the request (a status). proxy/classify.go and Response.classify first handle errors
//     that have another cause, such as the end of the request's context or the client's body.
//  3. An upstream failure is reported as an events.Failure, an ErrorType with its time and a detail text, to the breaker, metrics,
//     log and trace. A local error is counted and logged. Neither it nor a request problem is reported as a failure.
//  4. service.ReasonOf maps the ErrorType to an events.Reason, which selects the fallback (the key when). A call that the breaker
//     or a limit rejects begins here: it has a reason, but no error.
//  5. If no fallback responds, proxy/problem.go maps the reason to the problem.Problem (RFC 9457) that is the response.
//
// An events.Cause is none of these: it is the cause of a breaker's state change.

// ErrorClass is the class of a request's error. Exactly one of its fields is set.
type ErrorClass struct {
	// Failure is the class of an upstream failure.
	Failure events.ErrorType
	// Local is the local resource that was exhausted. The request counts neither as success nor as failure of the upstream.
	Local events.LocalError
	// RequestProblem is the status for the client if the request cannot be sent, or if the upstream rejected it for a reason that is
	// unrelated to the upstream's health: 400, 431 or 502. The request counts neither as success nor as failure of the
	// upstream.
	RequestProblem int
}

// Progress is the stage at which a request failed.
type Progress int

// The stages of a request.
const (
	NotConnected Progress = iota // no connection was established
	Connected                    // no complete header section of a response has arrived
	Responded                    // the response's body was being read
)

// Classify returns the class of err, the error of a request that failed at stage p. It must not be used for errors that are
// caused by the end of the request's context or by the client's body. An error with the method ErrorType, as of an injected fault, has
// its class.
func Classify(err error, p Progress) ErrorClass {
	var typed interface{ ErrorType() events.ErrorType }
	if errors.As(err, &typed) { // an injected fault, whatever the stage
		return ErrorClass{Failure: typed.ErrorType()}
	}
	if local, ok := localError(err); ok {
		return ErrorClass{Local: local}
	}
	if status := requestProblem(err, p); status != 0 {
		return ErrorClass{RequestProblem: status}
	}
	return ErrorClass{Failure: errorType(err, p)}
}

// errorType returns the class of an upstream's failure. It compares texts, as net/http has no types for most of its errors.
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

// requestProblem returns the status for ErrorClass.RequestProblem, or 0 if err is of another class. A transport rejects requests
// that cannot be sent before it gets a connection or, over HTTP/2, before it writes to one.
func requestProblem(err error, p Progress) int {
	if p == NotConnected {
		if isConnectError(err) {
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

func isConnectError(err error) bool {
	var (
		connect *connectError
		op      *net.OpError
		dns     *net.DNSError
	)
	return errors.As(err, &connect) || errors.As(err, &op) || errors.As(err, &dns)
}

// Unprocessed reports whether err means that the upstream has not processed the request, so that it may be sent again whatever
// its method (RFC 9113, section 8.7): the upstream refused the stream, or the stream is above the last one of its GOAWAY. This
// includes a request with a body that http.Transport would have sent again if it had a GetBody.
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

// localErrnos are the system errors for exhausted local resources.
var localErrnos = []struct {
	errno syscall.Errno
	kind  events.LocalError
}{
	{syscall.EMFILE, events.LocalDescriptors},
	{syscall.ENFILE, events.LocalDescriptors},
	{syscall.EADDRNOTAVAIL, events.LocalPorts},
	{syscall.ENOBUFS, events.LocalBuffers},
	{syscall.ENOMEM, events.LocalMemory},
}

// localError returns the local resource that was exhausted, if err reports that. A *net.DNSError does not wrap the system
// error, so its text is compared.
func localError(err error) (events.LocalError, bool) {
	var dns *net.DNSError
	lookup := errors.As(err, &dns)
	for _, s := range localErrnos {
		if errors.Is(err, s.errno) || lookup && strings.Contains(dns.Err, s.errno.Error()) {
			return s.kind, true
		}
	}
	return "", false
}
