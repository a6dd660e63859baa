package routes

import (
	"net/http"
	"time"

	"cbproxy/internal/strictyaml"
)

// ServicePrefix is the prefix of environment variables that override keys of a service.
const ServicePrefix = "CIRCUIT_BREAKER_"

// defaultConfig returns a configuration with only defaults.
func defaultConfig() *Config {
	return &Config{
		Listen:          "127.0.0.1:8080",
		Server:          "auto",
		ShutdownTimeout: 30 * time.Second,
		DataDir:         "./cbproxy-data",
		Limits: Limits{
			HeaderBytes:       64 << 10,
			BodyBytes:         32 << 20,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       120 * time.Second,
		},
		AccessLog: AccessLog{Destination: "stdout", Format: "json", Sample: 1},
		Outcomes:  Outcomes{Enabled: true, MaxBytes: 16 << 20, MaxAge: 24 * time.Hour},
		Admin:     Admin{Listen: "127.0.0.1:9901"},
		Redis:     Redis{TTL: time.Hour, Share: Share{Enabled: true, Quorum: 1}},
		Routes:    map[string]*Route{},
		Fallbacks: map[string]*Fallback{},
	}
}

// defaultRoute returns a route with only defaults.
func defaultRoute() *Route {
	return &Route{
		StripPrefix:     true,
		RewriteLocation: true,
		Timeout:         30 * time.Second,
		IdleTimeout:     60 * time.Second,
		Balance: Balance{
			Policy:  "least_in_flight",
			Eject:   Eject{FailMax: 5, Time: 30 * time.Second, MaxRatio: 0.5},
			Resolve: 5 * time.Second,
		},
		Stream:         Stream{Window: 10 * time.Second},
		Hedge:          Hedge{MaxRatio: 0.05},
		Priority:       1,
		ResponseBuffer: 64 << 10,
		StreamCommit:   "headers",
		Transport:      "auto",
		Retry: Retry{
			Backoff:    50 * time.Millisecond,
			MaxBackoff: time.Second,
			Budget:     0.2,
			Statuses:   []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
			Methods:    []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE"},
		},
		Breaker:         defaultBreaker(),
		FallbackEnabled: true,
	}
}

func defaultBreaker() Breaker {
	b := Breaker{
		Mode:             "enforce",
		Algorithm:        "ratio",
		FailMax:          5,
		SlowCallDuration: strictyaml.OrAuto[time.Duration]{Value: 5 * time.Second},
		MinRequests:      20,
		Window:           30 * time.Second,
		RecoveryTimeout:  60 * time.Second,
		RecoveryBackoff:  RecoveryBackoff{Multiplier: 1, Max: 10 * time.Minute, Jitter: 0.1},
		HalfOpenRequests: 1,
		GRPCFailureCodes: []string{"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS", "RESOURCE_EXHAUSTED"},
		RetryAfter:       RetryAfter{Max: 5 * time.Minute},
		Adaptive:         Adaptive{Mode: "off", FalseAlarm: 1e-8, MinRatio: 0.2, MinCalls: 50, Floor: 0.01, Cap: 0.1, Warmup: Warmup{Calls: 200, Time: 30 * time.Minute}},
		Probe:            Probe{Interval: 5 * time.Second, Timeout: time.Second},
		By:               By{Max: 100},
	}
	b.FailureStatuses.add("5xx")
	b.RetryAfter.Statuses.add("429")
	b.RetryAfter.Statuses.add("503")
	return b
}

// service has the defaults of a built-in service.
type service struct {
	prefix          string
	timeout         time.Duration
	failMax         int
	recoveryTimeout time.Duration
	priority        int
}

// builtinService returns the defaults of the built-in service name.
func builtinService(name string) (s service, ok bool) {
	switch name {
	case "rag_service":
		return service{"/rag", 30 * time.Second, 5, 60 * time.Second, 1}, true
	case "rule_generation_service":
		return service{"/rules", 20 * time.Second, 3, 60 * time.Second, 2}, true
	case "notifier_service":
		return service{"/notify", 15 * time.Second, 4, 30 * time.Second, 1}, true
	case "vms_service":
		return service{"/vms", 25 * time.Second, 6, 60 * time.Second, 3}, true
	case "prediction_service":
		return service{"/predict", 20 * time.Second, 4, 60 * time.Second, 2}, true
	}
	return service{}, false
}

// newRoute returns the route of the service name with its defaults.
func newRoute(name string) *Route {
	r := defaultRoute()
	if s, ok := builtinService(name); ok {
		r.Prefix = Prefixes{s.prefix}
		r.Timeout, r.Priority = s.timeout, s.priority
		r.Breaker.FailMax, r.Breaker.RecoveryTimeout = s.failMax, s.recoveryTimeout
	}
	return r
}

// newFallback returns a fallback with its defaults.
func newFallback() *Fallback {
	return &Fallback{
		When:       []string{"open", "half_open_limit", "throttled", "recovering", "connect", "timeout", "reset", "overload"},
		Try:        []string{"static"},
		Strategies: map[string]any{},
	}
}
