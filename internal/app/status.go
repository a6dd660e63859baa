package app

import (
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// serviceStatus returns the status of a service with the breaker b.
func (k *stateStore) serviceStatus(name string, b *breaker.Breaker) events.ServiceStatus {
	policy := b.Policy()
	s := events.ServiceStatus{
		BreakerStatus:     b.Status(),
		Mode:              policy.Mode.String(),
		Algorithm:         policy.Algorithm,
		FailMax:           policy.FailMax,
		FailureRatioLimit: failureRatioLimit(&policy),
		Epoch:             k.epoch(name),
		Probing:           k.probing(name),
	}
	if w := s.Window; w != nil && s.FailureRatioLimit > 0 && w.Requests > 0 && int64(w.Requests) >= int64(policy.MinRequests) {
		s.FailureRatio = float64(w.Failures) / float64(w.Requests)
	}
	return s
}

// failureRatioLimit returns the failure ratio that opens the breaker; 0 if there is none, or if the algorithm does not use it.
func failureRatioLimit(p *breaker.Policy) float64 {
	switch p.Algorithm {
	case "throttle", "budget", "expression":
		return 0
	}
	return p.FailureRatio
}

// serviceStatuses returns the status of all services by name.
func (k *stateStore) serviceStatuses() map[string]events.ServiceStatus {
	all := map[string]events.ServiceStatus{}
	for name, b := range k.breakers.All() {
		all[name] = k.serviceStatus(name, b)
	}
	return all
}
