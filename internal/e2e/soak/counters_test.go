package soak

import "fmt"

// checkCounters compares the counters of a stable instance with the counts of its clients. It is unknown whether the proxy
// received a request whose client disconnected, so counters may be anywhere in between. On routes with exactCounts no
// client disconnects, and counters must match.
func (s *soakTest) checkCounters(p *instance, m map[string]float64) {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	for service, route := range routes {
		c := s.counts.byRoute[routeKey{p.n, service}]
		if c == nil {
			continue
		}
		sum := 0.0
		for _, o := range []outcome{outcomeSuccess, outcomeFailure, outcomeRejected, outcomeCancelled} {
			v := m[fmt.Sprintf("enhanced_circuit_breaker_requests_total{service=%q,status=%q}", service, o)]
			sum += v
			if route.exactCounts && v != float64(c.outcomes[o]) {
				s.reportf("request counters", "instance %d, %s: the proxy counts %v requests as %s, the clients count %d", p.n, service, v, o, c.outcomes[o])
			}
		}
		if low, high := float64(c.responses), float64(c.responses+c.unknown); sum < low || sum > high {
			s.reportf("request counters", "instance %d, %s: the proxy counts %v requests, the clients count %v to %v", p.n, service, sum, low, high)
		}
		for f, n := range c.fallbacks {
			v := m[fmt.Sprintf("enhanced_circuit_breaker_fallbacks_total{reason=%q,service=%q,strategy=%q}", f.reason, service, f.strategy)]
			if low, high := float64(n), float64(n+c.unknown); v < low || v > high {
				s.reportf("request counters", "instance %d, %s: the proxy counts %v fallbacks %s for %s, the clients count %v to %v", p.n, service, v, f.strategy, f.reason, low, high)
			}
		}
	}
	if v := m[`cbproxy_config_reloads_total{result="failure"}`]; v != float64(p.invalidEdits) {
		s.reportf("reload counters", "instance %d: %v failed reloads are counted, want %d", p.n, v, p.invalidEdits)
	}
	s.checkQueueCounter(p, m)
}

// checkQueueCounter compares the number of queued requests with the responses to the clients. The caller holds
// s.counts.mu.
func (s *soakTest) checkQueueCounter(p *instance, m map[string]float64) {
	c := s.counts.byRoute[routeKey{p.n, "notifier_service"}]
	queued := 0
	for f, n := range c.fallbacks {
		if f.strategy == "queue" {
			queued += n
		}
	}
	v := m[`cbproxy_queue_accepted_total{service="notifier_service"}`]
	if low, high := float64(queued), float64(queued+c.unknown); v < low || v > high {
		s.reportf("queue counters", "instance %d: the proxy counts %v queued requests, the clients count %v to %v", p.n, v, low, high)
	}
}
