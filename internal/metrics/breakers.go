package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

var (
	stateDesc = prometheus.NewDesc("enhanced_circuit_breaker_state",
		"State of the circuit breaker: 0 closed, 1 open, 2 half-open.", []string{"service"}, nil)
	changesDesc = prometheus.NewDesc("cbproxy_state_changes_total",
		"Changes of the circuit breaker's state, by the state it changed to.", []string{"service", "to"}, nil)
	shadowDesc = prometheus.NewDesc("cbproxy_shadow_rejections_total",
		"Requests that passed because the breaker is in shadow mode and would have been rejected, by the reason.", []string{"service", "reason"}, nil)
	forcedDesc = prometheus.NewDesc("cbproxy_forced",
		"1 while an operator holds the circuit breaker in this state, 0 otherwise.", []string{"service", "state"}, nil)
	enforcedDesc = prometheus.NewDesc("cbproxy_enforced",
		"1 if the circuit breaker refuses requests when it is open, 0 if its mode lets all pass: shadow or off.", []string{"service"}, nil)
	failuresInARowDesc = prometheus.NewDesc("cbproxy_consecutive_failures",
		"Calls that failed in a row; an open or half-open breaker remembers those that opened it.", []string{"service"}, nil)
	failMaxDesc = prometheus.NewDesc("cbproxy_consecutive_failures_limit",
		"Failures in a row that open the circuit breaker; 0 if they never do.", []string{"service"}, nil)
	failureRatioDesc = prometheus.NewDesc("cbproxy_failure_ratio",
		"Share of the calls in the breaker's window that failed; 0 while there are too few to count, or nothing looks at it.", []string{"service"}, nil)
	failureRatioLimitDesc = prometheus.NewDesc("cbproxy_failure_ratio_limit",
		"Share of failures in the window that opens the circuit breaker; 0 if none does.", []string{"service"}, nil)
	probingDesc = prometheus.NewDesc("cbproxy_fleet_probing",
		"1 if this instance is the one that may probe for the fleet, 0 otherwise.", []string{"service"}, nil)
)

// holdable are the states that an operator can hold a breaker in.
var holdable = [...]events.State{events.Closed, events.Open}

// breakerCollector asks the breakers at each scrape, so that what it says is true then.
type breakerCollector struct {
	breakers func() map[string]Breaker
}

func (c *breakerCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, changesDesc, shadowDesc, probingDesc, forcedDesc, enforcedDesc,
		failuresInARowDesc, failMaxDesc, failureRatioDesc, failureRatioLimitDesc} {
		descs <- d
	}
}

func (c *breakerCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, b := range c.breakers() {
		gauge := func(d *prometheus.Desc, v float64, more ...string) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{service}, more...)...)
		}
		gauge(stateDesc, float64(b.State))
		for _, to := range events.States {
			metrics <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(b.Changes[to]), service, to.String())
		}
		gauge(probingDesc, oneIf(b.Probing))
		for _, state := range holdable {
			gauge(forcedDesc, oneIf(b.Held && b.State == state), state.String())
		}
		gauge(enforcedDesc, oneIf(b.Enforced))
		gauge(failuresInARowDesc, float64(b.ConsecutiveFailures))
		gauge(failMaxDesc, float64(b.FailMax))
		gauge(failureRatioDesc, b.FailureRatio)
		gauge(failureRatioLimitDesc, b.FailureRatioLimit)
		for reason, n := range b.ShadowRejections {
			metrics <- prometheus.MustNewConstMetric(shadowDesc, prometheus.CounterValue, float64(n), service, string(reason))
		}
	}
}
