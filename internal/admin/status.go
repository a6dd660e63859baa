package admin

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"cbproxy/internal/events"
)

// Health is the whole proxy at one moment.
type Health struct {
	// Status is healthy; degraded when any breaker that is not off is open or forced;
	// critical when that of a service of priority 1 is.
	Status        string             `json:"status"`
	Services      map[string]Service `json:"services"`
	TotalServices int                `json:"total_services"`
	Timestamp     time.Time          `json:"timestamp"`
	Config        ConfigStatus       `json:"config"`
	Redis         RedisStatus        `json:"redis"`
	Instance      string             `json:"instance"`
}

// Service is one service at one moment.
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
	// ShadowRejections counts the requests that passed in shadow mode and would have been
	// rejected.
	ShadowRejections uint64 `json:"shadow_rejections"`
	// Window is what failure_ratio and slow_call_ratio look at; null if neither is used.
	Window *events.Counts `json:"window"`
	// Openings counts the openings in a row, without a lasting recovery between them.
	Openings int `json:"openings"`
	// Cause is why the breaker is in its state; "" if it always was.
	Cause events.Cause `json:"cause"`
	// Epoch numbers the last decision of the fleet that is known here; 0 if there is none.
	Epoch uint64 `json:"epoch"`
	// Probing tells that this is the instance that may probe for the fleet.
	Probing bool `json:"probing"`
	// NotPersisted is why a state that was just forced is not in the store yet; "" in all other cases.
	NotPersisted string `json:"not_persisted,omitempty"`
}

// Configuration is the part of a service's configuration that health shows.
type Configuration struct {
	FailMax         int     `json:"fail_max"`
	RecoveryTimeout Seconds `json:"recovery_timeout"`
	Timeout         Seconds `json:"timeout"`
	FallbackEnabled bool    `json:"fallback_enabled"`
	Priority        int     `json:"priority"`
}

// Forced is an operator's hold on a breaker.
type Forced struct {
	State events.State `json:"state"`
	// Until is null where only a release ends the hold.
	Until  *time.Time `json:"until"`
	Reason string     `json:"reason"`
	// Scope is instance, or fleet where it holds all that share a Redis.
	Scope string `json:"scope"`
}

// ConfigStatus tells which configuration is in force, and what was wrong with the last one.
type ConfigStatus struct {
	Hash     string    `json:"hash"`
	LoadedAt time.Time `json:"loaded_at"`
	// LastError holds the faults of the last configuration read, a line each; null if it
	// was accepted.
	LastError *string `json:"last_error"`
	// RestartRequired lists the keys whose new values wait for a restart.
	RestartRequired []string `json:"restart_required"`
}

// RedisStatus tells of the Redis that instances share.
type RedisStatus struct {
	Configured bool `json:"configured"`
	// Up tells that nothing that was asked of it fails.
	Up bool `json:"up"`
	// Since is when Up last changed; null before Redis was first asked.
	Since *time.Time `json:"since"`
	// LastError is the last failure, however long ago; null if there was none.
	LastError *string `json:"last_error"`
	// Sharing tells that states are shared through it, and Quorum how many instances must have
	// found a failure before all follow.
	Sharing bool `json:"sharing"`
	Quorum  int  `json:"quorum"`
}

// Seconds is a duration that JSON shows as a number of seconds.
type Seconds time.Duration

// MarshalJSON returns the seconds, whole where they are whole.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds, to the nanosecond.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("must be a number of seconds, got %s", text)
	}
	*s = Seconds(math.Round(seconds * float64(time.Second)))
	return nil
}

// Summarize fills in what follows from the services: their number, and the status.
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

// TimeOrNil returns t in UTC, nil if it is zero.
func TimeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(time.Millisecond)
	return &t
}
