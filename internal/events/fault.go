package events

import "time"

// FaultKind is what an injected fault does to a request to the upstream.
type FaultKind string

// The kinds of faults, as they appear in the admin API and in metrics.
const (
	FaultAbort FaultKind = "abort" // a response with a status, without the upstream
	FaultDelay FaultKind = "delay" // a wait before the request is sent
	FaultReset FaultKind = "reset" // a reset connection, without the upstream
	FaultCut   FaultKind = "cut"   // a response of the upstream whose body ends early
)

// FaultKinds lists every kind.
var FaultKinds = [...]FaultKind{FaultAbort, FaultDelay, FaultReset, FaultCut}

// Fault is a fault that an operator injects into a share of a service's requests to its upstream, for a time.
type Fault struct {
	// ID identifies the fault among all faults of the process.
	ID   string    `json:"id"`
	Kind FaultKind `json:"kind"`
	// Status is the status of the responses of an abort; 0 for other kinds.
	Status int `json:"status,omitempty"`
	// Delay is the wait of a delay; 0 for other kinds.
	Delay Duration `json:"delay,omitzero"`
	// Share is the share of the matching requests that are hit, above 0 and at most 1.
	Share    float64  `json:"share"`
	Duration Duration `json:"duration"`
	// Match selects the requests; nil: all.
	Match  *FaultMatch `json:"match,omitempty"`
	Reason string      `json:"reason"`
	Since  time.Time   `json:"since"`
	Until  time.Time   `json:"until"`
}

// FaultMatch selects the requests that have a header field with a value.
type FaultMatch struct {
	Header string `json:"header"`
	// Value is compared with each value of the field; "": any value matches.
	Value string `json:"value,omitempty"`
}

// Duration is a duration whose JSON form is a text such as "1m30s".
type Duration time.Duration

// String returns the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the output of MarshalText.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// FaultCause is why a fault has ended.
type FaultCause string

// The causes of the end of a fault.
const (
	FaultExpired        FaultCause = "expired"         // its duration has passed
	FaultRemoved        FaultCause = "removed"         // an operator has ended it
	FaultServiceRemoved FaultCause = "service_removed" // a new configuration has no such service
	FaultShutdown       FaultCause = "shutdown"        // the proxy shuts down
)

// FaultStarted is published when an operator has injected a fault.
type FaultStarted struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	Fault   Fault     `json:"fault"`
}

// FaultEnded is published when a fault has ended.
type FaultEnded struct {
	Time    time.Time  `json:"time"`
	Service string     `json:"service"`
	Fault   Fault      `json:"fault"`
	Cause   FaultCause `json:"cause"`
	// Reason is the operator's reason for ending it.
	Reason string `json:"reason,omitempty"`
}

// FaultStatus is the state of the faults of one service.
type FaultStatus struct {
	// Active is the number of faults that are in force.
	Active int
	// Injected counts, by kind, the requests to the upstream that were hit. It counts since the service was configured.
	Injected map[FaultKind]uint64
}
