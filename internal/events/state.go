package events

import "fmt"

// State is a circuit breaker's state. Its numbers are the values of the state metric.
type State int32

// The states of a circuit breaker.
const (
	Closed State = iota
	Open
	HalfOpen
)

// States lists every state.
var States = [...]State{Closed, Open, HalfOpen}

// String returns the state as it appears in header fields, API responses and logs.
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

// MarshalText returns String, so that JSON and logs contain the name instead of the number.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the output of MarshalText.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range States {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("must be closed, open or half-open, got %q", text)
}

// Cause is the cause of a breaker's change of state.
type Cause string

// The causes of a change of state.
const (
	CauseConsecutiveFailures Cause = "consecutive_failures" // fail_max consecutive failures
	CauseFailureRatio        Cause = "failure_ratio"        // the ratio of failures in the window reached its limit
	CauseSlowCallRatio       Cause = "slow_call_ratio"      // the ratio of slow calls in the window reached its limit
	CauseBurnRate            Cause = "burn_rate"            // the burn rate of the error budget reached its limit
	CauseExpression          Cause = "expression"           // open_when of the algorithm expression was true
	CauseAdaptive            Cause = "adaptive"             // more failures than are likely for what was learnt
	CauseRetryAfter          Cause = "retry_after"          // responses asked for no request before a time
	CauseRecoveryTimeout     Cause = "recovery_timeout"     // the duration of an opening has passed
	CauseProbeFailed         Cause = "probe_failed"         // a half-open request failed
	CauseProbesSucceeded     Cause = "probes_succeeded"     // enough consecutive half-open requests succeeded
	CauseForced              Cause = "forced"               // an operator forced the state
	CauseReleased            Cause = "released"             // an operator released a forced state
	CauseForceExpired        Cause = "hold_ended"           // the duration of a forced state has passed
	CauseFleet               Cause = "fleet"                // a decision of the instances that share a Redis
	CauseRestored            Cause = "restored"             // the state was restored after a restart
)

// Counts are a breaker's counts at a change of its state.
type Counts struct {
	Requests            uint32 `json:"requests"`
	Successes           uint32 `json:"successes"`
	Failures            uint32 `json:"failures"`
	ConsecutiveFailures uint32 `json:"consecutive_failures"`
	// Slow is the number of slow calls in the window; 0 if no ratio is used.
	Slow uint32 `json:"slow"`
}
