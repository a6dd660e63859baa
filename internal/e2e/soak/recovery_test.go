package soak

import (
	"fmt"
	"net/http"
	"time"

	"cbproxy/internal/e2e/harness"
)

// awaitRecovery releases forced breakers and waits, under load, until the fleet has recovered.
func (s *soakTest) awaitRecovery() {
	s.t.Helper()
	for s.version.Add(1)%12 != 0 { // a multiple of 12 is the same configuration as version 0, except for versionTimeout
	}
	n := int(s.version.Load())
	for _, p := range s.fleet {
		s.await("Redis is up", func() error {
			h := p.Health()
			return require(h.Redis.Up, "instance %d: %s", p.n, h.Redis.LastError)
		})
		p.ReplaceConfig(s.config(n))
		s.awaitConfig(p, n)
	}
	s.await("no breaker is forced", s.releaseBreakers)
	s.await("all breakers are closed", func() error {
		return s.forEachService(func(p *instance, service string, h harness.ServiceHealth) error {
			return require(h.State == "closed" && h.Forced == nil, "instance %d: %s is %s, cause %s, retry at %v, forced %+v, probing %v",
				p.n, service, h.State, h.Cause, h.RetryAt, h.Forced, h.Probing)
		})
	})
}

// forEachService calls check for each service of each instance until it returns an error, and returns that.
func (s *soakTest) forEachService(check func(p *instance, service string, h harness.ServiceHealth) error) error {
	for _, p := range s.fleet {
		h := p.Health()
		if len(h.Services) != len(routes) || h.Total != len(routes) {
			return fmt.Errorf("instance %d: health has %d services and total_services %d", p.n, len(h.Services), h.Total)
		}
		for service, health := range h.Services {
			if err := check(p, service, health); err != nil {
				return err
			}
		}
	}
	return nil
}

// releaseBreakers releases a breaker that is forced without a duration. It returns an error while a breaker is forced.
func (s *soakTest) releaseBreakers() error {
	return s.forEachService(func(p *instance, service string, h harness.ServiceHealth) error {
		if h.Forced == nil {
			return nil
		}
		if h.Forced.Until == nil { // a forced state with an end expires
			s.forceState(p, service, map[string]string{"state": "auto", "scope": h.Forced.Scope})
		}
		return fmt.Errorf("instance %d: %s is forced: %+v", p.n, service, *h.Forced)
	})
}

// awaitUpstreamResponses waits until no instance uses a fallback, and until there are enough latency samples.
func (s *soakTest) awaitUpstreamResponses(l *load) {
	s.t.Helper()
	for _, p := range s.fleet {
		c := l.newClient(p, "check", 0)
		for service := range routes {
			if service == "calls" {
				continue
			}
			s.await("the upstream responds", func() error {
				req := c.newRequest(service, http.MethodGet)
				c.send(c.http1, req, nil, time.Minute)
				return require(req.status == http.StatusOK && req.strategy == "", "%v: status %d, %s for %s", req, req.status, req.strategy, req.reason)
			})
		}
		c.close()
	}
	before := s.counts.upstreamLatency.len()
	s.await("latency is measured", func() error { return require(s.counts.upstreamLatency.len() >= before+500, "too few responses") })
}
