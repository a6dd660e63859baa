package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

// maxEndpoints is the number of endpoints of a service that have metrics.
const maxEndpoints = 64

var (
	endpointUpDesc = prometheus.NewDesc("cbproxy_endpoint_up",
		"1 if the endpoint gets requests, 0 while it is ejected.", []string{"service", "endpoint"}, nil)
	endpointEjectionsDesc = prometheus.NewDesc("cbproxy_endpoint_ejections_total",
		"Ejections of the endpoint.", []string{"service", "endpoint"}, nil)
	endpointInFlightDesc = prometheus.NewDesc("cbproxy_endpoint_in_flight",
		"Attempts in flight at the endpoint.", []string{"service", "endpoint"}, nil)
)

// endpointCollector reads the endpoints at each scrape.
type endpointCollector struct {
	endpoints func() map[string][]events.EndpointStatus
}

func (c *endpointCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- endpointUpDesc
	descs <- endpointEjectionsDesc
	descs <- endpointInFlightDesc
}

func (c *endpointCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, endpoints := range c.endpoints() {
		exported := map[string]bool{} // two names in DNS may have the same address
		for _, e := range endpoints[:min(len(endpoints), maxEndpoints)] {
			if exported[e.URL] {
				continue
			}
			exported[e.URL] = true
			metrics <- prometheus.MustNewConstMetric(endpointUpDesc, prometheus.GaugeValue, boolToFloat(e.State == events.EndpointIn), service, e.URL)
			metrics <- prometheus.MustNewConstMetric(endpointEjectionsDesc, prometheus.CounterValue, float64(e.Ejections), service, e.URL)
			metrics <- prometheus.MustNewConstMetric(endpointInFlightDesc, prometheus.GaugeValue, float64(e.InFlight), service, e.URL)
		}
	}
}
