package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

var (
	keyBreakersDesc = prometheus.NewDesc("cbproxy_key_breakers",
		"Values of the field breaker.by.header that have a breaker of their own, by its state.", []string{"service", "state"}, nil)
	keyTransitionsDesc = prometheus.NewDesc("cbproxy_key_transitions_total",
		"State changes of the breakers of such values, by the new state.", []string{"service", "to"}, nil)
	keyEvictionsDesc = prometheus.NewDesc("cbproxy_key_evictions_total",
		"Values that have lost their breaker, because there were more than breaker.by.max.", []string{"service"}, nil)
)

// keyCollector reads the numbers of keys at each scrape. No label has a key.
type keyCollector struct {
	keys func() map[string]events.KeyCounts
}

func (c *keyCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- keyBreakersDesc
	descs <- keyTransitionsDesc
	descs <- keyEvictionsDesc
}

func (c *keyCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, keys := range c.keys() {
		for _, state := range events.States {
			metrics <- prometheus.MustNewConstMetric(keyBreakersDesc, prometheus.GaugeValue, float64(keys.Keys[state]), service, state.String())
			metrics <- prometheus.MustNewConstMetric(keyTransitionsDesc, prometheus.CounterValue, float64(keys.Transitions[state]), service, state.String())
		}
		metrics <- prometheus.MustNewConstMetric(keyEvictionsDesc, prometheus.CounterValue, float64(keys.Evictions), service)
	}
}
