package soak

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cbproxy/internal/e2e/harness"
)

// checkInvariants checks what must hold when no request is in flight.
func (s *soakTest) checkInvariants() {
	s.t.Helper()
	for _, p := range s.fleet {
		s.await("nothing is queued or in flight", func() error {
			m := p.Series()
			for service := range routes {
				inFlight, queued := m[`cbproxy_requests_in_flight{service="`+service+`"}`], m[`cbproxy_queue_depth{service="`+service+`"}`]
				if inFlight != 0 || queued != 0 {
					return fmt.Errorf("instance %d, %s: %v in flight, %v queued", p.n, service, inFlight, queued)
				}
			}
			return nil
		})
		m := p.Series()
		for _, name := range []string{"cbproxy_queue_dead", "cbproxy_queue_lost_total", "cbproxy_queue_dead_total", "cbproxy_store_errors_total"} {
			for series, value := range m {
				if (series == name || strings.HasPrefix(series, name+"{")) && value != 0 {
					s.reportf("queue or store errors", "instance %d: %s is %v", p.n, series, value)
				}
			}
		}
		p.queueTakenOver = p.queueTakenOver || m[`cbproxy_queue_surrendered_total{service="notifier_service"}`] > 0
		s.checkState(p, m)
		if p.stable {
			s.checkCounters(p, m)
		}
	}
	s.checkFleet()
	s.requests.check(s)
}

// checkState checks that health, metrics, events and history are consistent and report a healthy fleet.
func (s *soakTest) checkState(p *instance, m map[string]float64) {
	h := p.Health()
	if h.Config.LastError != nil || m["cbproxy_config_last_reload_successful"] != 1 || h.Status != "healthy" || m["cbproxy_redis_up"] != 1 || !h.Redis.Up {
		s.reportf("health", "instance %d: %+v, cbproxy_redis_up is %v", p.n, h, m["cbproxy_redis_up"])
	}
	for service, health := range h.Services {
		label := `{service="` + service + `"}`
		if v, ok := m["enhanced_circuit_breaker_state"+label]; !ok || v != 0 || health.State != "closed" {
			s.reportf("health and metrics", "instance %d: the state of %s is %s in health, %v in metrics", p.n, service, health.State, v)
		}
		for _, state := range []string{"open", "closed"} {
			if v := m[`cbproxy_forced{service="`+service+`",state="`+state+`"}`]; v != 0 {
				s.reportf("metrics", "instance %d: metrics report %s as forced", p.n, service)
			}
		}
		if p.stable {
			s.checkEvents(p, service, h.Instance, m)
		}
	}
}

// checkEvents compares the state changes in the event stream of a stable instance with its history and its counters.
func (s *soakTest) checkEvents(p *instance, service, instance string, m map[string]float64) {
	var events []harness.StateChange
	complete := true
	s.await("events and history match", func() error {
		if events, complete = p.events.changesOf(service); !complete {
			s.t.Logf("instance %d: the listener missed events", p.n)
			return nil
		}
		var history []harness.StateChange
		for _, c := range p.History(service) {
			if c.Instance == instance {
				history = append(history, c)
			}
		}
		slices.Reverse(history)
		if len(history) > len(events) || len(history) == 0 && len(events) > 0 {
			return fmt.Errorf("instance %d, %s: %d events, %d in the history", p.n, service, len(events), len(history))
		}
		for i, c := range events[len(events)-len(history):] {
			if h := history[i]; c.From != h.From || c.To != h.To || c.Cause != h.Cause || !c.Time.Equal(h.Time) {
				return fmt.Errorf("instance %d, %s: event %+v, history %+v", p.n, service, c, h)
			}
		}
		return nil
	})
	if !complete {
		return
	}
	counts := map[string]float64{} // by new state
	state := "closed"
	for _, c := range events {
		if c.From != state {
			s.reportf("events", "instance %d, %s: a change from %s in state %s", p.n, service, c.From, state)
		}
		state = c.To
		counts[c.To]++
	}
	for _, to := range breakerStates {
		if v := m[`cbproxy_state_changes_total{service="`+service+`",to="`+to+`"}`]; v != counts[to] {
			s.reportf("events and metrics", "instance %d, %s: metrics count %v changes to %s, events %v", p.n, service, v, to, counts[to])
		}
	}
	if state != "closed" {
		s.reportf("events", "instance %d, %s: the last event reports the state %s", p.n, service, state)
	}
}

// checkFleet checks that all instances and Redis have the same decision about each service.
func (s *soakTest) checkFleet() {
	s.await("all instances have the same decisions", func() error {
		epochs := map[string]uint64{}
		return s.forEachService(func(p *instance, service string, h harness.ServiceHealth) error {
			if epoch, ok := epochs[service]; ok && epoch != h.Epoch {
				return fmt.Errorf("%s: instance 0 has decision %d, instance %d has %d", service, epoch, p.n, h.Epoch)
			}
			epochs[service] = h.Epoch
			if h.Epoch == 0 {
				return nil
			}
			fields := s.client.HGetAll(s.t.Context(), "soak:circuit_breaker_state:"+service).Val()
			return require(fields["state"] == "closed" && fields["epoch"] == strconv.FormatUint(h.Epoch, 10) && fields["service_name"] == service,
				"%s: Redis has %v, instance %d has decision %d", service, fields, p.n, h.Epoch)
		})
	})
}
