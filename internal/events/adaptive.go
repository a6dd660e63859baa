package events

import "time"

// Baseline is what a breaker has learnt of its upstream while that was healthy.
type Baseline struct {
	// Mode is off, shadow or enforce. Demoted is whether it is shadow because too many openings were refuted, although enforce is
	// configured.
	Mode    string
	Demoted bool
	// FailureRatio is the largest failure ratio that a healthy upstream has, as it was learnt from Calls calls; 0 if nothing ever was.
	FailureRatio float64
	Calls        uint64
	// Latency has the durations of successful calls while the upstream was healthy, in the last 24 hours with calls; zero if there are
	// none.
	Latency Latency
	// SlowCallDuration is the duration from which on a call is slow, as it was learnt or configured.
	SlowCallDuration time.Duration
	// Warm is whether enough was learnt to recognize a fault.
	Warm bool
	// Evidence is that for a fault, from 0 to 1.
	Evidence float64
	Openings AdaptiveOpenings
	// Explanation is a sentence for operators.
	Explanation string
}

// Latency has quantiles of durations, in seconds.
type Latency struct{ P50, P95, P99 float64 }

// AdaptiveOpenings counts the openings of a breaker by what it has learnt, by the verdict on each: Earlier than its other limits would
// have opened it, OnlyAdaptive because those would not, or Refuted by the first probe. The first two also count what it would have done
// in shadow mode. They never decrease unless the baseline is reset.
type AdaptiveOpenings struct{ Earlier, OnlyAdaptive, Refuted uint64 }

// AdaptiveReportKind is what an AdaptiveReport reports.
type AdaptiveReportKind string

// The kinds of reports.
const (
	// AdaptiveEvidence: in shadow mode, failures are so many that the breaker would have been opened. It is reported once until the
	// evidence is 0 again.
	AdaptiveEvidence AdaptiveReportKind = "evidence"
	// AdaptiveDemoted: the mode is shadow from now on, because too many openings were refuted.
	AdaptiveDemoted AdaptiveReportKind = "demoted"
	// AdaptiveRestored: the mode is enforce again, because another limit has opened the breaker after evidence in shadow mode.
	AdaptiveRestored AdaptiveReportKind = "restored"
)

// AdaptiveReport is published by a breaker that learns how often its upstream fails.
type AdaptiveReport struct {
	Time    time.Time          `json:"time"`
	Service string             `json:"service"`
	Report  AdaptiveReportKind `json:"report"`
	// FailureRatio is the largest failure ratio that a healthy upstream has.
	FailureRatio float64 `json:"failure_ratio"`
	// Calls and Failures are those since the evidence was last 0.
	Calls    uint64 `json:"calls"`
	Failures uint64 `json:"failures"`
}
