package soak

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cbproxy/internal/e2e/harness"
)

// recover ends forced states and waits until everything has recovered, under load.
func (s *soak) recover() {
	s.t.Helper()
	for s.version.Add(1)%12 != 0 { // as at the start
	}
	n := int(s.version.Load())
	for _, p := range s.fleet {
		s.within("Redis is up again", func() string {
			h := p.Health()
			return unless(h.Redis.Up, "instance %d: %s", p.n, h.Redis.LastError)
		})
		p.ReplaceConfig(s.config(n))
		s.inForce(p, n)
	}
	s.within("nobody is forced", s.release)
	s.within("all breakers are closed", func() string {
		return s.each(func(p *soakProxy, name string, service soakService) string {
			return unless(service.State == "closed" && service.Forced == nil, "instance %d: %s is %s by %s, retry at %v, forced %+v, probing %v",
				p.n, name, service.State, service.Cause, service.RetryAt, service.Forced, service.Probing)
		})
	})
}

// soakService is a service with what the fleet knows of it.
type soakService = harness.ServiceHealth

// each looks at each service of each instance until something is missing.
func (s *soak) each(look func(p *soakProxy, name string, service soakService) string) string {
	for _, p := range s.fleet {
		h := p.Health()
		if len(h.Services) != len(soakRoutes) || h.Total != len(soakRoutes) {
			return fmt.Sprintf("instance %d has %d services, says %d", p.n, len(h.Services), h.Total)
		}
		for name, service := range h.Services {
			if missing := look(p, name, service); missing != "" {
				return missing
			}
		}
	}
	return ""
}

// release releases breakers that are forced indefinitely, and returns those still forced.
func (s *soak) release() (held string) {
	return s.each(func(p *soakProxy, name string, service soakService) string {
		if service.Forced == nil {
			return ""
		}
		if service.Forced.Until == nil {
			s.order(p, name, map[string]string{"state": "auto", "scope": service.Forced.Scope})
		} // any other is to end by itself
		return fmt.Sprintf("instance %d: %s is forced: %+v", p.n, name, *service.Forced)
	})
}

// checkAllAnswer waits until no plain route needs its fallback, and what the fast path takes has been
// measured.
func (s *soak) checkAllAnswer(l *load) {
	s.t.Helper()
	for _, p := range s.fleet {
		c := l.client(p, "check", 0)
		for name := range soakRoutes {
			if name == "calls" {
				continue
			}
			s.within("the upstream answers", func() string {
				q := c.question(name, http.MethodGet)
				c.ask(c.http1, q, nil, time.Minute)
				return unless(q.status == http.StatusOK && q.strategy == "", "%v: status %d, %s for %s", q, q.status, q.strategy, q.reason)
			})
		}
		c.close()
	}
	before := s.tally.fast.len()
	s.within("the fast path is measured", func() string { return unless(s.tally.fast.len() >= before+500, "too few answers") })
}

// checkInvariants checks invariants that hold while there are no requests.
func (s *soak) checkInvariants() {
	s.t.Helper()
	for _, p := range s.fleet {
		s.within("nothing is queued or in flight", func() string {
			m := p.Series()
			for name := range soakRoutes {
				flying, waiting := m[`cbproxy_requests_in_flight{service="`+name+`"}`], m[`cbproxy_queue_depth{service="`+name+`"}`]
				if flying != 0 || waiting != 0 {
					return fmt.Sprintf("instance %d, %s: %v in flight, %v queued", p.n, name, flying, waiting)
				}
			}
			return ""
		})
		m := p.Series()
		for _, none := range []string{"cbproxy_queue_dead", "cbproxy_queue_lost_total", "cbproxy_queue_dead_total", "cbproxy_store_errors_total"} {
			for series, value := range m {
				if (series == none || strings.HasPrefix(series, none+"{")) && value != 0 {
					s.complain("the queue or the store", "instance %d: %s is %v", p.n, series, value)
				}
			}
		}
		p.surrendered = p.surrendered || m[`cbproxy_queue_surrendered_total{service="notifier_service"}`] > 0
		s.checkState(p, m)
		if p.elder {
			s.checkCounts(p, m)
		}
	}
	s.checkFleet()
	s.ledger.check(s)
}

// checkState checks that health, metrics, events and history agree.
func (s *soak) checkState(p *soakProxy, m map[string]float64) {
	h := p.Health()
	if h.Config.LastError != nil || m["cbproxy_config_last_reload_successful"] != 1 || h.Status != "healthy" || m["cbproxy_redis_up"] != 1 || !h.Redis.Up {
		s.complain("health", "instance %d: %+v, Redis is %v", p.n, h, m["cbproxy_redis_up"])
	}
	for name, service := range h.Services {
		label := `{service="` + name + `"}`
		if v, ok := m["enhanced_circuit_breaker_state"+label]; !ok || v != 0 || service.State != "closed" {
			s.complain("health and metrics", "instance %d: %s is %s and %v", p.n, name, service.State, v)
		}
		for _, state := range []string{"open", "closed"} {
			if v := m[`cbproxy_forced{service="`+name+`",state="`+state+`"}`]; v != 0 {
				s.complain("forced", "instance %d: %s is reported as forced", p.n, name)
			}
		}
		if p.elder {
			s.checkEvents(p, name, h.Instance, m)
		}
	}
}

// checkEvents compares an elder's events with its history and its counters.
func (s *soak) checkEvents(p *soakProxy, service, instance string, m map[string]float64) {
	var events []harness.StateChange
	all := true
	s.within("events, history and metrics agree", func() string {
		if events, all = p.events.of(service); !all {
			s.t.Logf("instance %d: the listener was too slow for some events", p.n)
			return ""
		}
		var kept []harness.StateChange
		for _, c := range p.History(service) {
			if c.Instance == instance {
				kept = append(kept, c)
			}
		}
		slices.Reverse(kept)
		if len(kept) > len(events) || len(kept) == 0 && len(events) > 0 {
			return fmt.Sprintf("instance %d, %s: %d events, %d in the history", p.n, service, len(events), len(kept))
		}
		for i, c := range events[len(events)-len(kept):] {
			if k := kept[i]; c.From != k.From || c.To != k.To || c.Cause != k.Cause || !c.Time.Equal(k.Time) {
				return fmt.Sprintf("instance %d, %s: event %+v, history %+v", p.n, service, c, k)
			}
		}
		return ""
	})
	if !all {
		return
	}
	to := map[string]float64{}
	state := "closed"
	for _, c := range events {
		if c.From != state {
			s.complain("events", "instance %d, %s: from %s, but it was %s", p.n, service, c.From, state)
		}
		state = c.To
		to[c.To]++
	}
	for _, name := range stateSet {
		if v := m[`cbproxy_state_changes_total{service="`+service+`",to="`+name+`"}`]; v != to[name] {
			s.complain("events and metrics", "instance %d, %s: %v changes to %s are counted, %v were events", p.n, service, v, name, to[name])
		}
	}
	if state != "closed" {
		s.complain("events", "instance %d, %s: the last event reports %s", p.n, service, state)
	}
}

// checkFleet checks that all instances and Redis have the same decisions.
func (s *soak) checkFleet() {
	s.within("the fleet agrees", func() string {
		epochs := map[string]uint64{}
		return s.each(func(p *soakProxy, name string, service soakService) string {
			if epoch, ok := epochs[name]; ok && epoch != service.Epoch {
				return fmt.Sprintf("%s: instance 0 knows of decision %d, instance %d of %d", name, epoch, p.n, service.Epoch)
			}
			epochs[name] = service.Epoch
			if service.Epoch == 0 {
				return ""
			}
			fields := s.client.HGetAll(s.t.Context(), "soak:circuit_breaker_state:"+name).Val()
			return unless(fields["state"] == "closed" && fields["epoch"] == strconv.FormatUint(service.Epoch, 10) && fields["service_name"] == name,
				"%s: Redis has %v, instance %d knows of %d", name, fields, p.n, service.Epoch)
		})
	})
}
