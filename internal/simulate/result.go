package simulate

import (
	"time"

	"cbproxy/internal/events"
)

// Report is what a simulation tells, by service. It is the JSON of the command simulate and of the admin API.
type Report struct {
	Services map[string]*ServiceReport `json:"services"`
}

// ServiceReport is what would have happened to the calls of one service.
type ServiceReport struct {
	// Calls is the number of calls in the record.
	Calls int `json:"calls"`
	// Failures is the number of those that failed.
	Failures int `json:"failures"`
	// Unknown is the largest number of calls, of either configuration, that the simulated breaker lets through and that were not made
	// then: how they would have ended is unknown.
	Unknown int `json:"unknown"`
	// Config is the result of the configuration, Against that of the one to compare with; nil if there is none.
	Config  *Result `json:"config"`
	Against *Result `json:"against,omitempty"`
	// Buckets are the calls by their times; nil unless SetBuckets has set them.
	Buckets []Bucket `json:"buckets,omitempty"`

	first, last time.Time // the times of the first and the last call
}

// Result is what one configuration would have done.
type Result struct {
	// Openings is the number of transitions to open, also of those after a failed probe, and OpenSeconds the time for which the breaker
	// was open.
	Openings    int     `json:"openings"`
	OpenSeconds float64 `json:"open_seconds"`
	// Refused is the number of calls that the breaker refuses, and RefusedGood that of those that had succeeded.
	Refused     int `json:"refused"`
	RefusedGood int `json:"refused_good"`
	// FailuresPassed is the number of failures that the breaker lets through.
	FailuresPassed int `json:"failures_passed"`
	// FirstOpening is when the breaker opens first; nil if it never does.
	FirstOpening *time.Time   `json:"first_opening"`
	Transitions  []Transition `json:"transitions"`

	unknown int
}

// Unknown returns the number of calls that the breaker lets through and that were not made then.
func (r *Result) Unknown() int { return r.unknown }

// Transition is one change of the breaker's state.
type Transition struct {
	Time  time.Time    `json:"time"`
	From  events.State `json:"from"`
	To    events.State `json:"to"`
	Cause events.Cause `json:"cause"`
}
