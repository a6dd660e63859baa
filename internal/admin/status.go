package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/events"
)

// Health is the status of the proxy and its services.
type Health struct {
	// Status is critical if the breaker of a service of priority 1 is open or forced, degraded if that of another service
	// is, else healthy. Breakers in mode off do not count.
	Status        string             `json:"status"`
	Services      map[string]Service `json:"services"`
	TotalServices int                `json:"total_services"`
	Timestamp     time.Time          `json:"timestamp"`
	Config        ConfigStatus       `json:"config"`
	Redis         RedisStatus        `json:"redis"`
	Instance      string             `json:"instance"`
}

// Service is the status of one service.
type Service struct {
	ServiceName   string          `json:"service_name"`
	ServiceType   string          `json:"service_type"`
	State         events.State    `json:"circuit_breaker_state"`
	FailCounter   int             `json:"fail_counter"`
	Configuration Configuration   `json:"configuration"`
	Mode          string          `json:"mode"`
	Since         time.Time       `json:"since"`
	RetryAt       *time.Time      `json:"retry_at"`
	Forced        *Forced         `json:"forced"`
	LastError     *events.Failure `json:"last_error"`
	// Faults are the injected faults that are in force, oldest first.
	Faults []events.Fault `json:"faults"`
	// Overrides are the keys of its route that an operator has overridden; null if there are none.
	Overrides *OverridesStatus `json:"overrides"`
	// ConcurrencyLimit is the limit on its requests in flight; null if there is none.
	ConcurrencyLimit *events.ConcurrencyLimit `json:"concurrency_limit"`
	// Endpoints are those of its upstream. There are none while DNS has not answered yet.
	Endpoints []Endpoint `json:"endpoints"`
	// Keys are the numbers of keys; nil if requests are not judged by key.
	Keys *KeysSummary `json:"keys,omitempty"`
	// ShadowRejections counts the requests that the breaker would have rejected if it were not in shadow mode.
	ShadowRejections uint64 `json:"shadow_rejections"`
	// Algorithm is the algorithm that opens the breaker, beside fail_max.
	Algorithm string `json:"algorithm"`
	// RejectionRatio is the share of requests that the algorithm rejects now while the breaker is closed.
	RejectionRatio float64 `json:"rejection_ratio"`
	// AdmittedRatio is the share of requests that is let through now after the breaker has closed; 1 if recovery_ramp has passed.
	AdmittedRatio float64 `json:"admitted_ratio"`
	// Adaptive is what the breaker has learnt of the upstream; nil if breaker.adaptive.mode is off.
	Adaptive *Adaptive `json:"adaptive,omitempty"`
	// SlowCallDuration is the duration from which on a call is slow now; nil unless slow_call_duration is auto.
	SlowCallDuration *Seconds `json:"slow_call_duration,omitempty"`
	// ExpressionErrors counts the evaluations of open_when and failure_when that failed.
	ExpressionErrors uint64 `json:"expression_errors"`
	// Window contains the counts of the algorithm; null if it counts nothing.
	Window *events.Counts `json:"window"`
	// Openings counts consecutive openings: those without a lasting recovery between them.
	Openings int `json:"openings"`
	// Cause is why the breaker is in its state; "" if it has never changed.
	Cause events.Cause `json:"cause"`
	// Epoch is the number of the last decision of the fleet that this instance has received; 0 if none.
	Epoch uint64 `json:"epoch"`
	// Probing is whether this instance sends the probes for the fleet.
	Probing bool `json:"probing"`
	// NotPersisted is why the forced state is not stored yet; "" except in the response to a force-state request.
	NotPersisted string `json:"not_persisted,omitempty"`
}

// NewService returns the API's form of a service's status.
func NewService(name string, status events.ServiceStatus, c Configuration) Service {
	s := Service{
		ServiceName:      name,
		ServiceType:      strings.TrimSuffix(name, "_service"),
		State:            status.State,
		FailCounter:      status.ConsecutiveFailures,
		Configuration:    c,
		Mode:             status.Mode,
		Since:            status.Since.UTC(),
		RetryAt:          TimeOrNil(status.RetryAt),
		LastError:        status.LastFailure,
		ShadowRejections: status.ShadowRejections.Total(),
		Algorithm:        status.Algorithm,
		RejectionRatio:   status.RejectionRatio,
		AdmittedRatio:    status.AdmittedRatio,
		Adaptive:         newAdaptive(status.Adaptive),
		ExpressionErrors: status.ExpressionErrors,
		Window:           status.Window,
		Openings:         status.ConsecutiveOpenings,
		Cause:            status.Cause,
		Epoch:            status.Epoch,
		Probing:          status.Probing,
	}
	if d := status.AutoSlowCall; d > 0 {
		s.SlowCallDuration = new(Seconds(d))
	}
	if f := status.Forced; f != nil {
		s.Forced = &Forced{State: f.State, Until: TimeOrNil(f.Until), Reason: f.Reason, Scope: "instance"}
		if f.Shared {
			s.Forced.Scope = "fleet"
		}
	}
	return s
}

// Configuration is the part of a service's configuration that is included in its status.
type Configuration struct {
	FailMax         int     `json:"fail_max"`
	RecoveryTimeout Seconds `json:"recovery_timeout"`
	Timeout         Seconds `json:"timeout"`
	FallbackEnabled bool    `json:"fallback_enabled"`
	Priority        int     `json:"priority"`
}

// Forced is a state that an operator has forced.
type Forced struct {
	State events.State `json:"state"`
	// Until is when the state is released automatically; null if never.
	Until  *time.Time `json:"until"`
	Reason string     `json:"reason"`
	// Scope is instance, or fleet if the state applies to all instances that share a Redis.
	Scope string `json:"scope"`
}

// Endpoint is the status of one endpoint of a service.
type Endpoint struct {
	URL   string               `json:"url"`
	State events.EndpointState `json:"state"`
	// Until is when the ejection ends; null if it is not ejected.
	Until *time.Time `json:"until"`
	// InFlight is the number of attempts in flight.
	InFlight int64 `json:"in_flight"`
	// FailCounter is the number of consecutive failures.
	FailCounter int `json:"fail_counter"`
	// Ejections counts the ejections since the endpoint was added.
	Ejections uint64 `json:"ejections"`
	// LastError is its last failure; null if there was none.
	LastError *events.Failure `json:"last_error"`
}

// NewEndpoints returns the API's form of the status of a service's endpoints. It is never nil.
func NewEndpoints(statuses []events.EndpointStatus) []Endpoint {
	list := make([]Endpoint, 0, len(statuses))
	for _, s := range statuses {
		list = append(list, Endpoint{
			URL: s.URL, State: s.State, Until: TimeOrNil(s.Until), InFlight: s.InFlight, FailCounter: s.FailCounter, Ejections: s.Ejections, LastError: s.LastFailure,
		})
	}
	return list
}

// ConfigStatus identifies the active configuration and contains the result of the last reload.
type ConfigStatus struct {
	// Hash depends on the file and on overridden keys.
	Hash     string    `json:"hash"`
	LoadedAt time.Time `json:"loaded_at"`
	// LastError lists the faults of the last configuration, one per line; null if it was accepted.
	LastError *string `json:"last_error"`
	// RestartRequired lists the keys whose new values take effect only after a restart.
	RestartRequired []string `json:"restart_required"`
	// OverridesDropped are the overrides that the last configuration which did not fit to some has ended.
	OverridesDropped []DroppedOverrides `json:"overrides_dropped"`
}

// RedisStatus is the status of the shared Redis.
type RedisStatus struct {
	Configured bool `json:"configured"`
	// Up is whether all kinds of Redis commands succeed.
	Up bool `json:"up"`
	// Since is when Up last changed; null before the first command.
	Since *time.Time `json:"since"`
	// LastError is the last error, however long ago; null if there was none.
	LastError *string `json:"last_error"`
	// Sharing is whether instances share the states of their breakers.
	Sharing bool `json:"sharing"`
	// Quorum is the number of instances whose breakers must open before those of all instances do.
	Quorum int `json:"quorum"`
}

// Seconds is a duration whose JSON form is a number of seconds.
type Seconds time.Duration

// MarshalJSON writes the seconds with as many decimals as needed.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds and rounds it to nanoseconds.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("must be a number of seconds, got %s", text)
	}
	*s = Seconds(math.Round(seconds * float64(time.Second)))
	return nil
}

// Summarize sets Status and TotalServices from the services.
func (h *Health) Summarize() {
	h.TotalServices = len(h.Services)
	h.Status = "healthy"
	for _, s := range h.Services {
		if s.Mode == "off" || s.State != events.Open && s.Forced == nil {
			continue
		}
		if s.Configuration.Priority == 1 {
			h.Status = "critical"
			return
		}
		h.Status = "degraded"
	}
}

// TimeOrNil returns t in UTC, rounded to milliseconds, or nil if t is zero.
func TimeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(time.Millisecond)
	return &t
}
