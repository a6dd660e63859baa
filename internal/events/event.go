package events

import (
	"encoding/json"
	"time"
)

// Event is one of StateChanged, UntilChanged, Forced, AdmissionChanged, FaultStarted, FaultEnded, OverridesChanged,
// AdaptiveReport, KeyStateChanged, ProbeGranted, EndpointChanged, EndpointsChanged, Reloaded, QueueChanged and AdminAction.
type Event interface{ event() }

// StateChanged is one transition of one breaker.
type StateChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	From    State     `json:"from"`
	To      State     `json:"to"`
	Cause   Cause     `json:"cause"`
	Counts  Counts    `json:"counts"`
	// Until is when an opening ends; zero for other states and for an opening without end.
	Until time.Time `json:"until,omitzero"`
	// Failure is the last failure before the transition, if failures caused it.
	Failure *Failure `json:"failure,omitempty"`
	// Reason is the operator's reason for a forced or released state.
	Reason string `json:"reason,omitempty"`
}

// UntilChanged is published when the end of an opening that is not forced has changed, but not if a new configuration changed it.
type UntilChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// Until is when the opening ends now.
	Until time.Time `json:"until"`
	// Cause is why that has changed: CauseRetryAfter or CauseFleet.
	Cause Cause `json:"cause"`
}

// HistoryEntry is a transition in a service's history, with the name of the instance whose
// breaker changed its state.
type HistoryEntry struct {
	StateChanged
	Instance string `json:"instance"`
}

// Forced is published when an operator has forced a breaker's state, or released it.
type Forced struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// State is the forced state, or "auto" if the forced state was released.
	State  string    `json:"state"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	// Shared is set if it applies to the whole fleet.
	Shared bool `json:"shared,omitempty"`
}

// AdmissionChanged is published when a closed breaker begins or stops to reject a share of the requests. Meanwhile the share changes
// without events.
type AdmissionChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// Reason is ReasonThrottled or ReasonRecovering.
	Reason Reason `json:"reason"`
	// RejectedRatio is the share that is rejected now; 0 if none is rejected any more.
	RejectedRatio float64 `json:"rejected_ratio"`
	// Mode is breaker.mode: in shadow mode the requests are not rejected.
	Mode string `json:"mode"`
}

// ProbeGranted is published when this instance becomes the one that probes for the fleet.
type ProbeGranted struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
}

// Reloaded is published when a new configuration was accepted or rejected.
type Reloaded struct {
	Time time.Time `json:"time"`
	Hash string    `json:"hash,omitempty"`
	// Error holds the faults of a rejected configuration, one per line; "" if it was accepted.
	Error string `json:"error,omitempty"`
	// RestartRequired lists the keys whose new values take effect only after a restart.
	RestartRequired []string `json:"restart_required,omitempty"`
}

// QueueChanged is the status of a service's queue. It is published a few times a second at most.
type QueueChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// Waiting and Dead are numbers of requests.
	Waiting int `json:"waiting"`
	Dead    int `json:"dead"`
	// Oldest is when the oldest waiting request was accepted; zero if none is waiting.
	Oldest time.Time `json:"oldest,omitzero"`
	// Accepted and Delivered are numbers of requests since the process started.
	Accepted  uint64 `json:"accepted"`
	Delivered uint64 `json:"delivered"`
}

// AdminAction is a request to the admin API that changed something, or tried to.
type AdminAction struct {
	Time time.Time `json:"time"`
	// Action is force-state, inject-fault, end-fault, set-overrides, end-overrides, reset-baseline, reload, retry-queued, drop-queued, or refused.
	Action string `json:"action"`
	// Remote is the client's address.
	Remote string `json:"remote"`
	// Service, Request and Fault identify the object of the action.
	Service string `json:"service,omitempty"`
	Request string `json:"request,omitempty"`
	Fault   string `json:"fault,omitempty"`
	// State, Duration and Scope are the parameters of force-state as they were sent; Scope is key for the breaker of a key. Kind, Share and Duration are those of
	// inject-fault, Set and Duration those of set-overrides.
	State    string    `json:"state,omitempty"`
	Kind     FaultKind `json:"kind,omitempty"`
	Share    float64   `json:"share,omitempty"`
	Duration string    `json:"duration,omitempty"`
	Scope    string    `json:"scope,omitempty"`
	// Set has values by the path of their key below the route.
	Set map[string]json.RawMessage `json:"set,omitempty"`
	// Reason is the operator's reason.
	Reason string `json:"reason,omitempty"`
	// Error is why the action failed; "" if it succeeded.
	Error string `json:"error,omitempty"`
}

func (StateChanged) event()     {}
func (UntilChanged) event()     {}
func (QueueChanged) event()     {}
func (Forced) event()           {}
func (AdmissionChanged) event() {}
func (FaultStarted) event()     {}
func (FaultEnded) event()       {}
func (OverridesChanged) event() {}
func (AdaptiveReport) event()   {}
func (ProbeGranted) event()     {}
func (EndpointChanged) event()  {}
func (EndpointsChanged) event() {}
func (Reloaded) event()         {}
func (AdminAction) event()      {}
