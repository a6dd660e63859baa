package soak

import "fmt"

// checkCounts compares what an elder has counted with what its clients have. Where a client has disconnected, it is
// unknown whether the proxy had its request; at routes where no client disconnects all must add up.
func (s *soak) checkCounts(p *soakProxy, m map[string]float64) {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	for name, route := range soakRoutes {
		c := s.tally.places[place{p.n, name}]
		if c == nil {
			continue
		}
		sum := 0.0
		for _, how := range []class{classSuccess, classFailure, classRejected, classCancelled} {
			v := m[fmt.Sprintf("enhanced_circuit_breaker_requests_total{service=%q,status=%q}", name, how)]
			sum += v
			if route.exact && v != float64(c.classes[how]) {
				s.complain("sums", "instance %d, %s: %v requests are counted as %s, clients have %d", p.n, name, v, how, c.classes[how])
			}
		}
		if low, high := float64(c.answered), float64(c.answered+c.uncertain); sum < low || sum > high {
			s.complain("sums", "instance %d, %s: %v requests are counted, clients have %v to %v", p.n, name, sum, low, high)
		}
		for by, n := range c.fallbacks {
			v := m[fmt.Sprintf("enhanced_circuit_breaker_fallbacks_total{reason=%q,service=%q,strategy=%q}", by[1], name, by[0])]
			if low, high := float64(n), float64(n+c.uncertain); v < low || v > high {
				s.complain("sums", "instance %d, %s: %v fallbacks by %s for %s are counted, clients have %v to %v", p.n, name, v, by[0], by[1], low, high)
			}
		}
	}
	if v := m[`cbproxy_config_reloads_total{result="failure"}`]; v != float64(p.faulty) {
		s.complain("sums", "instance %d: %v failed reloads are counted, there were %d faulty edits", p.n, v, p.faulty)
	}
	s.checkAccepted(p, m)
}

// checkAccepted compares the 202s with what the queue has counted.
func (s *soak) checkAccepted(p *soakProxy, m map[string]float64) {
	c := s.tally.places[place{p.n, "notifier_service"}]
	seen := 0
	for by, n := range c.fallbacks {
		if by[0] == "queue" {
			seen += n
		}
	}
	v := m[`cbproxy_queue_accepted_total{service="notifier_service"}`]
	if low, high := float64(seen), float64(seen+c.uncertain); v < low || v > high {
		s.complain("sums", "instance %d: %v requests were queued, clients have %v to %v", p.n, v, low, high)
	}
}
