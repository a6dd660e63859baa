// Package events holds the small words that every room shares, and the bus that carries
// what happened from the place where it happened to whoever wants to know.
package events

import (
	"fmt"
	"time"
)

// State is a circuit breaker's state, numbered as the state metric is.
type State int32

// The states of a circuit breaker.
const (
	Closed State = iota
	Open
	HalfOpen
)

// States lists every state.
var States = [...]State{Closed, Open, HalfOpen}

// String returns the state as it stands in headers, health and logs.
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	}
	return "unknown"
}

// MarshalText returns String, so that JSON and logs show the word and not the number.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range States {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("must be closed, open or half-open, got %q", text)
}

// Cause says why a breaker changed its state.
type Cause string

// The causes of a change of state.
const (
	CauseConsecutiveFailures Cause = "consecutive_failures" // fail_max failures in a row
	CauseFailureRatio        Cause = "failure_ratio"        // too large a share of failures in the window
	CauseSlowCallRatio       Cause = "slow_call_ratio"      // too large a share of slow calls in the window
	CauseRecoveryTimeout     Cause = "recovery_timeout"     // an opening's time was up
	CauseProbeFailed         Cause = "probe_failed"         // a half-open request failed
	CauseProbesSucceeded     Cause = "probes_succeeded"     // enough half-open requests in a row succeeded
	CauseForced              Cause = "forced"               // an operator forced the state
	CauseReleased            Cause = "released"             // an operator released a forced state
	CauseHoldEnded           Cause = "hold_ended"           // a forced state's duration was over
	CauseFleet               Cause = "fleet"                // what the instances that share a Redis decided
	CauseRestored            Cause = "restored"             // as it was before the process ended
)

// Counts is what a breaker had counted when it changed its state.
type Counts struct {
	Requests            uint32 `json:"requests"`
	Successes           uint32 `json:"successes"`
	Failures            uint32 `json:"failures"`
	ConsecutiveFailures uint32 `json:"consecutive_failures"`
	// Slow is the number of slow calls in the window; 0 where no ratio is used.
	Slow uint32 `json:"slow"`
}

// Failure is one failed call to an upstream. Detail may name the upstream's address: it is
// for operators, never for clients.
type Failure struct {
	Time   time.Time `json:"time"`
	Type   ErrorType `json:"type"`
	Detail string    `json:"detail,omitempty"`
}

// Event is something that happened: StateChanged, Forced, Probing, Reloaded, QueueChanged or
// AdminAction.
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
	// Failure is the last failure before a change that a failure caused.
	Failure *Failure `json:"failure,omitempty"`
	// Reason is the operator's, for a forced or released state.
	Reason string `json:"reason,omitempty"`
}

// HistoryEntry is a transition with the name of the instance whose breaker it was of: a line of a
// service's history.
type HistoryEntry struct {
	StateChanged
	Instance string `json:"instance"`
}

// Forced tells that an operator took the wheel of one breaker, or let go of it.
type Forced struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// State is the forced state, or "auto" where the breaker is its own again.
	State  string    `json:"state"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	// Shared tells that the order is for the whole fleet.
	Shared bool `json:"shared,omitempty"`
}

// ProbeGranted tells that it is now this instance's turn to probe for the fleet.
type ProbeGranted struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
}

// Reloaded tells that a new configuration was accepted or refused.
type Reloaded struct {
	Time time.Time `json:"time"`
	Hash string    `json:"hash,omitempty"`
	// Error holds the faults of a refused configuration, a line each; "" if it was accepted.
	Error string `json:"error,omitempty"`
	// RestartRequired lists the keys whose new values wait for a restart.
	RestartRequired []string `json:"restart_required,omitempty"`
}

// QueueChanged tells how a service's queue is. It is told some times a second at most.
type QueueChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	// Waiting and Dead count requests.
	Waiting int `json:"waiting"`
	Dead    int `json:"dead"`
	// Oldest is when the one that has waited longest was accepted; zero if none waits.
	Oldest time.Time `json:"oldest,omitzero"`
	// Accepted and Delivered count since the process began.
	Accepted  uint64 `json:"accepted"`
	Delivered uint64 `json:"delivered"`
}

// AdminAction is a request to the admin plane that changed something, or tried to.
type AdminAction struct {
	Time time.Time `json:"time"`
	// Action is force-state, reload, retry-queued, drop-queued, or refused.
	Action string `json:"action"`
	// Remote is the client's address.
	Remote string `json:"remote"`
	// Service and Request say what it was done to.
	Service string `json:"service,omitempty"`
	Request string `json:"request,omitempty"`
	// State, Duration and Scope are those of force-state, in its own words.
	State    string `json:"state,omitempty"`
	Duration string `json:"duration,omitempty"`
	Scope    string `json:"scope,omitempty"`
	// Reason is the operator's.
	Reason string `json:"reason,omitempty"`
	// Error is why it was not done, "" if it was.
	Error string `json:"error,omitempty"`
}

func (StateChanged) event() {}
func (QueueChanged) event() {}
func (Forced) event()       {}
func (ProbeGranted) event() {}
func (Reloaded) event()     {}
func (AdminAction) event()  {}
