package service

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

// Service is the part of a route that survives reloads, as long as a configuration has the service.
type Service struct {
	Name     string
	Breaker  *breaker.Breaker
	Observer events.Observer
	pool     *upstream.Pool
	poolKey  poolKey          // of pool
	chain    *fallbacks.Chain // of the current route; nil: it has none
	Failures *failureLog

	InFlight    limit.Concurrency // if the route's max_in_flight is set
	RetryBudget limit.RetryBudget
	Reservation clientReservation
	LastSuccess atomic.Int64  // start of the last client request that succeeded, in nanoseconds since 1970; 0: none
	prober      *prober       // nil: recovery is tested with clients' requests
	probeSignal chan struct{} // holds a token if the breaker may admit a probe
}

// changed handles the breaker's events. It is called under the breaker's lock.
func (s *Service) handleEvent(e events.Event) {
	switch e := e.(type) {
	case events.StateChanged:
		if e.Cause == events.CauseSlowCallRatio {
			s.Observer.Failed(events.ErrorSlow, int(e.Counts.Slow))
		}
		if e.To == events.HalfOpen {
			s.wakeProber()
		}
	case events.ProbeGranted:
		s.wakeProber()
	}
}

// FailedLocally reports a shortage of this machine.
func (s *Service) FailedLocally(logger *slog.Logger, kind events.LocalError, err error) {
	s.Observer.FailedLocally(kind)
	s.Failures.logLocal(logger, s.Name, kind, err)
}

func (s *Service) wakeProber() {
	select {
	case s.probeSignal <- struct{}{}:
	default: // there is a token already
	}
}

// close ends the prober and the breaker.
func (s *Service) close() {
	s.prober.close()
	s.Breaker.Close()
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
