package metrics

import "github.com/prometheus/client_golang/prometheus"

var overriddenDesc = prometheus.NewDesc("cbproxy_overridden",
	"1 for each key of a route that an operator has overridden for a time, by its path below the route.", []string{"service", "key"}, nil)

// overriddenCollector reads the overridden keys at each scrape.
type overriddenCollector struct {
	overridden func() map[string][]string
}

func (c *overriddenCollector) Describe(descs chan<- *prometheus.Desc) { descs <- overriddenDesc }

func (c *overriddenCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, keys := range c.overridden() {
		for _, key := range keys {
			metrics <- prometheus.MustNewConstMetric(overriddenDesc, prometheus.GaugeValue, 1, service, key)
		}
	}
}
