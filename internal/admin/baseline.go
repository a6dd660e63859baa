package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"cbproxy/internal/events"
)

const resetExample = `{"reason": "the upstream was replaced"}`

// Baseline is the API's form of what a breaker has learnt of its upstream.
type Baseline struct {
	// FailureRatio is the assumed one before any call, and null if the mode was never other than off.
	FailureRatio *float64        `json:"failure_ratio"`
	Calls        uint64          `json:"calls"`
	Latency      BaselineLatency `json:"latency"`
	Warm         bool            `json:"warm"`
	Evidence     float64         `json:"evidence"`
	// SlowCallDuration is that in force, learnt or configured. Earlier versions responded null.
	SlowCallDuration *Seconds         `json:"slow_call_duration"`
	Mode             string           `json:"mode"`
	Demoted          bool             `json:"demoted"`
	Openings         BaselineOpenings `json:"openings"`
	Explanation      string           `json:"explanation"`
}

// BaselineLatency has quantiles of the durations of calls; null as long as none are learnt.
type BaselineLatency struct {
	P50 *Seconds `json:"p50"`
	P95 *Seconds `json:"p95"`
	P99 *Seconds `json:"p99"`
}

// newBaselineLatency returns the API's form of l.
func newBaselineLatency(l events.Latency) BaselineLatency {
	if l == (events.Latency{}) {
		return BaselineLatency{}
	}
	return BaselineLatency{P50: newSeconds(l.P50), P95: newSeconds(l.P95), P99: newSeconds(l.P99)}
}

// newSeconds returns a number of seconds, rounded to microseconds: the rest is no information.
func newSeconds(seconds float64) *Seconds {
	return new(Seconds(time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)))
}

// BaselineOpenings counts the openings by what was learnt, by the verdict on each.
type BaselineOpenings struct {
	Earlier      uint64 `json:"earlier"`
	OnlyAdaptive uint64 `json:"only_adaptive"`
	Refuted      uint64 `json:"refuted"`
}

// Adaptive is the part of a Baseline that is included in the status of a service.
type Adaptive struct {
	Mode        string  `json:"mode"`
	Demoted     bool    `json:"demoted"`
	Warm        bool    `json:"warm"`
	Evidence    float64 `json:"evidence"`
	Explanation string  `json:"explanation"`
}

// newAdaptive returns the API's form of b, nil if that is nil.
func newAdaptive(b *events.Baseline) *Adaptive {
	if b == nil {
		return nil
	}
	return &Adaptive{Mode: b.Mode, Demoted: b.Demoted, Warm: b.Warm, Evidence: b.Evidence, Explanation: b.Explanation}
}

func (a *api) baseline(w http.ResponseWriter, r *http.Request) {
	a.respondBaseline(w, r, http.StatusOK)
}

// respondBaseline responds with what the breaker of a service has learnt.
func (a *api) respondBaseline(w http.ResponseWriter, r *http.Request, status int) {
	b, ok := a.Backend.Baseline(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	response := Baseline{
		Calls: b.Calls, Warm: b.Warm, Evidence: b.Evidence, Mode: b.Mode, Demoted: b.Demoted,
		Latency: newBaselineLatency(b.Latency), SlowCallDuration: new(Seconds(b.SlowCallDuration)),
		Openings: BaselineOpenings(b.Openings), Explanation: b.Explanation,
	}
	if b.FailureRatio > 0 {
		response.FailureRatio = &b.FailureRatio
	}
	respond(w, status, response)
}

// resetBaseline makes the breaker of a service forget what it has learnt. The body is optional.
func (a *api) resetBaseline(w http.ResponseWriter, r *http.Request, name string) {
	reason, ok := reasonOf(w, r)
	if ok && r.ContentLength != 0 {
		reason, ok = readRequest(w, r, resetExample, parseReset)
	}
	if !ok {
		return
	}
	err := a.Backend.ResetBaseline(name)
	done := action{Action: "reset-baseline", Service: name, Reason: reason}
	if pending := (*NotPersistedError)(nil); errors.As(err, &pending) {
		a.audit(r, done, "not_persisted", pending)
		a.respondBaseline(w, r, http.StatusAccepted)
		return
	}
	a.audit(r, done)
	a.respondBaseline(w, r, http.StatusOK)
}

// parseReset parses the keys of a body. It returns all faults at once.
func parseReset(fields map[string]json.RawMessage) (reason string, _ []string) {
	var faults faultList
	for key, value := range fields {
		if key == "reason" {
			reason = faults.parseReason(value)
		} else {
			faults.add("%s: unknown key; the only key is reason", key)
		}
	}
	return reason, faults
}
