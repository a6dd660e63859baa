package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

// The metrics of what breakers learn. Services whose mode is off have none, except those of durations.
var (
	baselineLatencyDesc = prometheus.NewDesc("cbproxy_baseline_latency_seconds",
		"Durations of successful calls while the upstream was healthy, in the last 24 hours with calls, by quantile. No sample if breaker.adaptive.mode is off, unless slow_call_duration is auto, and before the first call.", []string{"service", "quantile"}, nil)
	baselineRatioDesc = prometheus.NewDesc("cbproxy_baseline_failure_ratio",
		"Largest failure ratio that the upstream has while it is healthy, as it was learnt. No sample if breaker.adaptive.mode is off, like the metrics below.", []string{"service"}, nil)
	evidenceDesc = prometheus.NewDesc("cbproxy_adaptive_evidence_ratio",
		"Evidence that the upstream is not healthy, from 0 to 1, where the breaker opens.", []string{"service"}, nil)
	adaptiveOpeningsDesc = prometheus.NewDesc("cbproxy_adaptive_openings_total",
		"Openings by the evidence, in shadow mode those that would have been, by verdict: earlier than other limits, only by the evidence, or refuted by the first probe.", []string{"service", "verdict"}, nil)
	adaptiveModeDesc = prometheus.NewDesc("cbproxy_adaptive_mode",
		"1 for the mode in force, 0 for the other one: shadow instead of enforce if too many openings were refuted.", []string{"service", "mode"}, nil)
	adaptiveDemotedDesc = prometheus.NewDesc("cbproxy_adaptive_demoted",
		"1 if the mode in force is shadow although enforce is configured, because too many openings were refuted.", []string{"service"}, nil)
)

func describeAdaptive(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{baselineRatioDesc, evidenceDesc, adaptiveOpeningsDesc, adaptiveModeDesc, adaptiveDemotedDesc, baselineLatencyDesc} {
		descs <- d
	}
}

// collectAdaptive sends the metrics of a service, of which b was learnt; nil: nothing is.
func collectAdaptive(metrics chan<- prometheus.Metric, service string, b *events.Baseline) {
	if b == nil {
		return
	}
	metrics <- prometheus.MustNewConstMetric(baselineRatioDesc, prometheus.GaugeValue, b.FailureRatio, service)
	metrics <- prometheus.MustNewConstMetric(evidenceDesc, prometheus.GaugeValue, b.Evidence, service)
	for verdict, n := range map[string]uint64{"earlier": b.Openings.Earlier, "only_adaptive": b.Openings.OnlyAdaptive, "refuted": b.Openings.Refuted} {
		metrics <- prometheus.MustNewConstMetric(adaptiveOpeningsDesc, prometheus.CounterValue, float64(n), service, verdict)
	}
	metrics <- prometheus.MustNewConstMetric(adaptiveDemotedDesc, prometheus.GaugeValue, boolToFloat(b.Demoted), service)
	for _, mode := range []string{"shadow", "enforce"} {
		metrics <- prometheus.MustNewConstMetric(adaptiveModeDesc, prometheus.GaugeValue, boolToFloat(b.Mode == mode), service, mode)
	}
}

// collectLatency sends the metrics of the durations that were learnt of a service; zero: none were.
func collectLatency(metrics chan<- prometheus.Metric, service string, l events.Latency) {
	if l == (events.Latency{}) {
		return
	}
	for quantile, seconds := range map[string]float64{"0.5": l.P50, "0.95": l.P95, "0.99": l.P99} {
		metrics <- prometheus.MustNewConstMetric(baselineLatencyDesc, prometheus.GaugeValue, seconds, service, quantile)
	}
}
