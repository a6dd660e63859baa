package events

import "time"

// Failure is one failed call to an upstream. Detail may contain the upstream's address: it must
// be shown to operators only, not to clients.
type Failure struct {
	Time   time.Time `json:"time"`
	Type   ErrorType `json:"type"`
	Detail string    `json:"detail,omitempty"`
}

// ErrorType is a class of upstream failures.
type ErrorType string

// The classes of upstream failures, as they appear in the failures metric.
const (
	ErrorConnect    ErrorType = "connect"     // no connection: refused, unreachable, no such host, TLS
	ErrorTimeout    ErrorType = "timeout"     // no response within the route's timeout
	ErrorReset      ErrorType = "reset"       // the connection broke before the response was complete
	ErrorProtocol   ErrorType = "protocol"    // a malformed response
	ErrorStatus     ErrorType = "status"      // a status in failure_statuses
	ErrorTruncated  ErrorType = "truncated"   // a response that ended before its length
	ErrorIdle       ErrorType = "idle"        // a stream without data for idle_timeout, or without a first event for first_event_timeout
	ErrorGRPC       ErrorType = "grpc"        // a listed gRPC code
	ErrorSSE        ErrorType = "sse"         // a listed server-sent event
	ErrorSlow       ErrorType = "slow"        // slower than slow_call_duration
	ErrorExpression ErrorType = "expression"  // a response for which failure_when is true
	ErrorAbandoned  ErrorType = "abandoned"   // cancelled by its client after abandoned_after without a response
	ErrorSlowStream ErrorType = "slow_stream" // a stream below min_bytes_per_second
)

// ErrorTypes lists every class of failure. It may only be appended to: see Code.
var ErrorTypes = [...]ErrorType{
	ErrorConnect, ErrorTimeout, ErrorReset, ErrorProtocol, ErrorStatus,
	ErrorTruncated, ErrorIdle, ErrorGRPC, ErrorSSE, ErrorSlow, ErrorExpression, ErrorAbandoned, ErrorSlowStream,
}

// LocalError is a resource that this machine lacked to carry out a request. It counts neither as
// success nor as failure of the upstream.
type LocalError string

// The classes of local errors, as they appear in the metric of local errors.
const (
	LocalDescriptors LocalError = "descriptors" // file descriptors: EMFILE, ENFILE
	LocalPorts       LocalError = "ports"       // local ports or addresses: EADDRNOTAVAIL
	LocalBuffers     LocalError = "buffers"     // network buffers: ENOBUFS
	LocalMemory      LocalError = "memory"      // kernel memory: ENOMEM
	LocalPause       LocalError = "pause"       // time: the process was stopped when a timeout expired
)

// LocalErrors lists every class of local errors.
var LocalErrors = [...]LocalError{LocalDescriptors, LocalPorts, LocalBuffers, LocalMemory, LocalPause}
