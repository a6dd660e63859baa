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
	probingDesc = prometheus.NewDesc("cbproxy_fleet_probing",
		"1 if this instance is the one that may probe for the fleet, 0 otherwise.", []string{"service"}, nil)
)

// breakerCollector asks the breakers at each scrape, so that what it says is true then.
type breakerCollector struct {
	breakers func() map[string]Breaker
}

func (c *breakerCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- stateDesc
	descs <- changesDesc
	descs <- shadowDesc
	descs <- probingDesc
}

func (c *breakerCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, b := range c.breakers() {
		metrics <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, float64(b.State), service)
		for _, to := range events.States {
			metrics <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(b.Changes[to]), service, to.String())
		}
		metrics <- prometheus.MustNewConstMetric(probingDesc, prometheus.GaugeValue, oneIf(b.Probing), service)
		for reason, n := range b.ShadowRejections {
			metrics <- prometheus.MustNewConstMetric(shadowDesc, prometheus.CounterValue, float64(n), service, string(reason))
		}
	}
}
