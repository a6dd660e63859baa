package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

var concurrencyLimitDesc = prometheus.NewDesc("cbproxy_concurrency_limit",
	"Limit on the service's requests in flight that is in force: max_in_flight, or what auto has found. No sample if there is none.", []string{"service"}, nil)

// limitCollector reads the limits on requests in flight at each scrape.
type limitCollector struct {
	limits func() map[string]events.ConcurrencyLimit
}

func (c *limitCollector) Describe(descs chan<- *prometheus.Desc) { descs <- concurrencyLimitDesc }

func (c *limitCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, l := range c.limits() {
		metrics <- prometheus.MustNewConstMetric(concurrencyLimitDesc, prometheus.GaugeValue, float64(l.Limit), service)
	}
}
