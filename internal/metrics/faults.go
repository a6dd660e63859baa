package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

var (
	faultsInjectedDesc = prometheus.NewDesc("cbproxy_faults_injected_total",
		"Upstream attempts, deliveries and probes that an injected fault has hit, by kind.", []string{"service", "kind"}, nil)
	faultsActiveDesc = prometheus.NewDesc("cbproxy_faults_active",
		"Injected faults that are in force.", []string{"service"}, nil)
)

// faultCollector reads the injected faults at each scrape.
type faultCollector struct {
	faults func() map[string]events.FaultStatus
}

func (c *faultCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- faultsInjectedDesc
	descs <- faultsActiveDesc
}

func (c *faultCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, s := range c.faults() {
		for _, kind := range events.FaultKinds {
			metrics <- prometheus.MustNewConstMetric(faultsInjectedDesc, prometheus.CounterValue, float64(s.Injected[kind]), service, string(kind))
		}
		metrics <- prometheus.MustNewConstMetric(faultsActiveDesc, prometheus.GaugeValue, float64(s.Active), service)
	}
}
