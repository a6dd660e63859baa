package proxy

import (
	"log/slog"
	"sync/atomic"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/limit"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// service is what outlives a configuration: a service keeps it as long as any
// configuration names the service.
type service struct {
	name     string
	breaker  *breaker.Breaker
	observer events.Observer
	pool     *upstream.Pool
	poolKey  poolKey          // of pool
	chain    *fallbacks.Chain // of the route in force; nil if it has none
	failures failureLog

	inFlight    limit.Concurrency // if the route's max_in_flight is set
	retryBudget limit.RetryBudget
	reserved    reservation
	succeeded   atomic.Int64  // when a client's request began that succeeded last, in nanoseconds since 1970; 0: none has
	prober      *prober       // nil: recovery is tested with clients' requests
	halfOpen    chan struct{} // holds a token if there may be something to probe
}

// changed is told of the breaker's changes, under its lock.
func (s *service) changed(e events.Event) {
	switch e := e.(type) {
	case events.StateChanged:
		if e.Cause == events.CauseSlowCallRatio {
			s.observer.Failed(events.ErrorSlow, int(e.Counts.Slow))
		}
		if e.To == events.HalfOpen {
			s.wakeProber()
		}
	case events.ProbeGranted:
		s.wakeProber()
	}
}

// failedLocally reports that this machine could not carry out a request.
func (s *service) failedLocally(logger *slog.Logger, kind events.LocalError, err error) {
	s.observer.FailedLocally(kind)
	s.failures.logLocal(logger, s.name, kind, err)
}

func (s *service) wakeProber() {
	select {
	case s.halfOpen <- struct{}{}:
	default: // there is a token
	}
}

// close ends what the service does by itself.
func (s *service) close() {
	s.prober.close()
	s.breaker.Close()
}

var modes = map[string]breaker.Mode{"enforce": breaker.Enforce, "shadow": breaker.Shadow, "off": breaker.Off}

func policyOf(r *routes.Route) breaker.Policy {
	b := &r.Breaker
	return breaker.Policy{
		Mode:             modes[b.Mode],
		FailMax:          b.FailMax,
		FailureRatio:     b.FailureRatio,
		SlowCallRatio:    b.SlowCallRatio,
		SlowCallDuration: b.SlowCallDuration,
		MinRequests:      b.MinRequests,
		Window:           b.Window,
		RecoveryTimeout:  b.RecoveryTimeout,
		RecoveryBackoff: breaker.Backoff{
			Multiplier: b.RecoveryBackoff.Multiplier,
			Max:        b.RecoveryBackoff.Max,
			Jitter:     b.RecoveryBackoff.Jitter,
		},
		HalfOpenRequests: b.HalfOpenRequests,
		ActiveProbing:    b.Probe.Path != "",
	}
}
