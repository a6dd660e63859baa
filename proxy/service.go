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

// service is the part of a route that survives reloads, as long as a configuration has the service.
type service struct {
	name     string
	breaker  *breaker.Breaker
	observer events.Observer
	pool     *upstream.Pool
	poolKey  poolKey          // of pool
	chain    *fallbacks.Chain // of the current route; nil: it has none
	failures *failureLog

	inFlight    limit.Concurrency // if the route's max_in_flight is set
	retryBudget limit.RetryBudget
	reserved    clientReservation
	succeeded   atomic.Int64  // start of the last client request that succeeded, in nanoseconds since 1970; 0: none
	prober      *prober       // nil: recovery is tested with clients' requests
	halfOpen    chan struct{} // holds a token if the breaker may admit a probe
}

// changed handles the breaker's events. It is called under the breaker's lock.
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

// failedLocally reports a shortage of this machine.
func (s *service) failedLocally(logger *slog.Logger, kind events.LocalError, err error) {
	s.observer.FailedLocally(kind)
	s.failures.logLocal(logger, s.name, kind, err)
}

func (s *service) wakeProber() {
	select {
	case s.halfOpen <- struct{}{}:
	default: // there is a token already
	}
}

// close ends the prober and the breaker.
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
