package service

import (
	"log/slog"
	"sync/atomic"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/balance"
	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
	"cbproxy/internal/fault"
	"cbproxy/internal/limit"
)

// Service is the state of one configured service that survives reloads. Its methods are safe for concurrent use.
type Service struct {
	Name     string
	Breaker  *breaker.Breaker
	Observer events.Observer
	Faults   *fault.Set // that operators inject into its requests
	failures *failureLog

	InFlight    limit.Concurrency // if the route's max_in_flight is set
	learntLimit limit.AIMD        // of InFlight, if max_in_flight is auto
	RetryBudget limit.RetryBudget // of all the service's requests
	HedgeBudget limit.RetryBudget // likewise, of hedge.max_ratio
	reservation clientReservation
	lastSuccess atomic.Int64  // latest start of a client request that succeeded, in nanoseconds since 1970; 0: none
	probeSignal chan struct{} // has a capacity of 1; a value makes the prober check whether the breaker is half-open

	// What the current configuration uses. Guarded by Manager.mu.
	endpoints     *balance.Set     // nil: the service has not been activated yet
	chain         *fallbacks.Chain // nil: no fallback
	keys          *keyed.Breakers  // nil: requests are not judged by key
	keyHeader     string           // of keys
	prober        *prober          // nil: clients' requests are the probes
	healthChecker *healthChecker   // nil: endpoints are not checked
}

// handleEvent handles an event of the breaker. It is called under the breaker's lock.
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

// ReportLocalError counts and logs a request that failed because this machine lacked a resource.
func (s *Service) ReportLocalError(logger *slog.Logger, kind events.LocalError, err error) {
	s.Observer.FailedLocally(kind)
	s.failures.logLocalError(logger, s.Name, kind, err)
}

// ReportExpressionError counts and logs that failure_when could not be evaluated for a response.
func (s *Service) ReportExpressionError(logger *slog.Logger, err error) {
	s.Breaker.NoteExpressionError()
	s.failures.logExpressionError(logger, s.Name, err)
}

// LogFailure logs a failure of the upstream. It omits records if there are too many.
func (s *Service) LogFailure(logger *slog.Logger, f *events.Failure) {
	s.failures.logFailure(logger, s.Name, f)
}

// NoteSuccess records a success of a client's request that was sent at start. See Manager.LastSuccess.
func (s *Service) NoteSuccess(start time.Time) { storeMax(&s.lastSuccess, start.UnixNano()) }

// NoteRejected records that the breaker rejected a client's request that began at start. See clientReservation.
func (s *Service) NoteRejected(start time.Time) { s.reservation.noteRejected(start) }

// storeMax stores n in v, unless v is greater. Requests end in another order than they begin.
func storeMax(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

func (s *Service) wakeProber() {
	select {
	case s.probeSignal <- struct{}{}:
	default: // a signal is pending already
	}
}

// close ends the health checks, the prober, the breaker and the faults, the latter for a cause.
func (s *Service) close(cause events.FaultCause) {
	s.healthChecker.close()
	s.prober.close()
	s.Faults.Close(cause)
	s.Breaker.Close()
	if s.keys != nil {
		s.keys.Close()
	}
}
