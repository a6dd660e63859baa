package events

import "time"

// EndpointState is whether an endpoint of a service gets requests.
type EndpointState string

// The states of an endpoint.
const (
	EndpointIn      EndpointState = "in"      // it gets requests
	EndpointEjected EndpointState = "ejected" // it gets none until it has answered one request or health check after the ejection's end
)

// EndpointStatus is the status of one endpoint of a service at one moment.
type EndpointStatus struct {
	// URL is what the configuration says or, for an address that DNS has returned, the scheme and the address.
	URL   string        `json:"url"`
	State EndpointState `json:"state"`
	// Until is when the ejection ends; zero if the endpoint is not ejected.
	Until time.Time `json:"until,omitzero"`
	// InFlight is the number of attempts in flight.
	InFlight int64 `json:"in_flight"`
	// FailCounter is the number of consecutive failures.
	FailCounter int `json:"fail_counter"`
	// Ejections counts the ejections since the endpoint was added. It never decreases.
	Ejections uint64 `json:"ejections"`
	// LastFailure is the last failure; nil if there was none.
	LastFailure *Failure `json:"-"`
}

// EndpointCause is why the state of an endpoint has changed.
type EndpointCause string

// The causes of a change.
const (
	EndpointFailed      EndpointCause = "failed"       // consecutive failures of requests
	EndpointUnhealthy   EndpointCause = "unhealthy"    // consecutive failures of health checks
	EndpointTrialFailed EndpointCause = "trial_failed" // the request or health check after an ejection's end failed
	EndpointRecovered   EndpointCause = "recovered"    // the request or health check after an ejection's end succeeded
	EndpointNeeded      EndpointCause = "needed"       // too few endpoints are left, because others were removed or max_ratio was lowered
	EndpointNotJudged   EndpointCause = "not_judged"   // the configuration does not eject endpoints any more
)

// EndpointChanged is published when an endpoint is ejected, or gets requests again.
type EndpointChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// Endpoint is EndpointStatus.URL.
	Endpoint string        `json:"endpoint"`
	State    EndpointState `json:"state"`
	Cause    EndpointCause `json:"cause"`
	// Until is when the ejection ends.
	Until time.Time `json:"until,omitzero"`
	// Failure is the last failure, if the endpoint is ejected.
	Failure *Failure `json:"failure,omitempty"`
}

// EndpointsChanged is published when the endpoints of a service have changed: by DNS, not by a new configuration.
type EndpointsChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// Added and Removed are in the form of EndpointStatus.URL.
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	// Error is why the names could not be looked up, whose addresses are then kept; "" if they were.
	Error string `json:"error,omitempty"`
}
