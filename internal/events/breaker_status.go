package events

import "time"

// BreakerStatus is the status of a circuit breaker at one moment.
type BreakerStatus struct {
	State State
	Since time.Time
	// Cause is the cause of the transition to State; "" if there has been no transition.
	Cause Cause
	// RetryAt is when the open period ends and the breaker becomes half-open; zero if the breaker is not open, or is forced open
	// without end.
	RetryAt time.Time
	// Forced is nil if the state is not forced.
	Forced *ForcedState
	// ConsecutiveFailures is the number of consecutive failures; for an open or half-open breaker, of those that opened it.
	ConsecutiveFailures int
	// Window holds the counts of the algorithm; nil if it counts nothing, because no ratio is a limit. The counts are zero while the
	// breaker is not closed.
	Window *Counts
	// RejectionRatio is the probability with which the algorithm rejects a call now; 0 if it rejects none, as most do.
	RejectionRatio float64
	// AdmittedRatio is the share of calls that is let through now, while the share grows after the breaker has closed; otherwise 1.
	AdmittedRatio float64
	// ConsecutiveOpenings is the number of openings without a lasting recovery between them, including the current one: it is the
	// exponent of RecoveryBackoff. It is 0 once the breaker has been closed for RecoveryTimeout, and in a forced state.
	ConsecutiveOpenings int
	// ProbesInFlight is the number of calls in flight whose results end a half-open state, without those whose permit any other
	// call may revoke. ProbesSucceeded is the number of those that have succeeded.
	ProbesInFlight, ProbesSucceeded int
	// LastFailure is the last failure that was reported, or the slow calls that opened the breaker if that was later; nil if
	// there was none.
	LastFailure *Failure
	// ExpressionErrors counts the calls after which open_when or failure_when could not be evaluated. It counts since the breaker
	// was created, and never decreases.
	ExpressionErrors uint64
	// Adaptive is what has been learnt of the upstream; nil if that is nothing, or only durations.
	Adaptive *Baseline
	// Latency is that of the Baseline; zero if durations are not learnt, or none was.
	Latency Latency
	// AutoSlowCall is the duration from which on a call is slow if the breaker determines it by what it has learnt; otherwise 0.
	AutoSlowCall time.Duration
	// Transitions counts the transitions by the state they led to. ShadowRejections counts the calls that were admitted only because
	// the mode is shadow. Both count since the breaker was created, and never decrease.
	Transitions      [len(States)]uint64
	ShadowRejections ShadowRejections
}

// ForcedState is a state that an operator has forced.
type ForcedState struct {
	State State
	// Until is when the forced state ends; zero if only Release ends it.
	Until  time.Time
	Reason string
	// Shared reports whether the state is forced for the whole fleet and not for this breaker alone.
	Shared bool
}

// ShadowRejections counts calls that a breaker in shadow mode has admitted and would otherwise have rejected: because it was open, or
// because it was half-open and had no permit for them, because its algorithm rejected them, or because it let only a share of the
// calls through after it had closed.
type ShadowRejections struct{ Open, HalfOpenLimit, Throttled, Recovering uint64 }

// Total returns the number of all these calls.
func (r ShadowRejections) Total() uint64 {
	return r.Open + r.HalfOpenLimit + r.Throttled + r.Recovering
}

// ServiceStatus is the status of one service, as metrics, the admin API and the command line show it.
type ServiceStatus struct {
	BreakerStatus
	// Mode is breaker.mode: enforce, shadow or off.
	Mode string
	// Algorithm is breaker.algorithm.
	Algorithm string
	// FailMax is the number of consecutive failures that opens the breaker; 0 disables that.
	FailMax int
	// FailureRatio is the failure ratio in the window, 0 below the minimum number of calls, and FailureRatioLimit the ratio that opens
	// the breaker; 0 disables that.
	FailureRatio, FailureRatioLimit float64
	// Epoch is the number of the last decision of the fleet that this instance has received; 0 if none.
	Epoch uint64
	// Probing is whether this instance sends the probes for the fleet.
	Probing bool
}
