package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

var (
	stateDesc = prometheus.NewDesc("enhanced_circuit_breaker_state",
		"State of the circuit breaker: 0 closed, 1 open, 2 half-open.", []string{"service"}, nil)
	changesDesc = prometheus.NewDesc("cbproxy_state_changes_total",
		"State changes of the circuit breaker by new state.", []string{"service", "to"}, nil)
	shadowDesc = prometheus.NewDesc("cbproxy_shadow_rejections_total",
		"Requests that a breaker in shadow mode let pass and would have rejected otherwise, by reason.", []string{"service", "reason"}, nil)
	forcedDesc = prometheus.NewDesc("cbproxy_forced",
		"1 while the circuit breaker is forced into this state, 0 otherwise.", []string{"service", "state"}, nil)
	enforcedDesc = prometheus.NewDesc("cbproxy_enforced",
		"1 if the circuit breaker rejects requests while open, 0 if its mode is shadow or off.", []string{"service"}, nil)
	failuresInARowDesc = prometheus.NewDesc("cbproxy_consecutive_failures",
		"Consecutive failed calls; while open or half-open, the count that opened the breaker.", []string{"service"}, nil)
	failMaxDesc = prometheus.NewDesc("cbproxy_consecutive_failures_limit",
		"Consecutive failures that open the circuit breaker; 0 if disabled.", []string{"service"}, nil)
	failureRatioDesc = prometheus.NewDesc("cbproxy_failure_ratio",
		"Failure ratio in the breaker's window; 0 below the minimum number of calls or if no ratio limit is set.", []string{"service"}, nil)
	failureRatioLimitDesc = prometheus.NewDesc("cbproxy_failure_ratio_limit",
		"Failure ratio that opens the circuit breaker; 0 if disabled.", []string{"service"}, nil)
	algorithmDesc = prometheus.NewDesc("cbproxy_breaker_algorithm",
		"1 for the algorithm that opens the breaker, beside fail_max.", []string{"service", "algorithm"}, nil)
	rejectionRatioDesc = prometheus.NewDesc("cbproxy_rejection_ratio",
		"Share of requests that the algorithm throttle rejects now; 0 for other algorithms.", []string{"service"}, nil)
	admittedRatioDesc = prometheus.NewDesc("cbproxy_admitted_ratio",
		"Share of requests let through now while recovery_ramp is running; otherwise 1.", []string{"service"}, nil)
	expressionErrorsDesc = prometheus.NewDesc("cbproxy_expression_errors_total",
		"Evaluations of open_when and failure_when that failed; they count as false.", []string{"service"}, nil)
	probingDesc = prometheus.NewDesc("cbproxy_fleet_probing",
		"1 if this instance holds the fleet's probe lease, 0 otherwise.", []string{"service"}, nil)
)

// forcible are the states that a breaker can be forced to stay in.
var forcible = [...]events.State{events.Closed, events.Open}

// breakerCollector reads the breakers at each scrape.
type breakerCollector struct {
	breakers func() map[string]events.ServiceStatus
}

func (c *breakerCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stateDesc, changesDesc, shadowDesc, probingDesc, forcedDesc, enforcedDesc,
		failuresInARowDesc, failMaxDesc, failureRatioDesc, failureRatioLimitDesc, algorithmDesc, rejectionRatioDesc, admittedRatioDesc, expressionErrorsDesc} {
		descs <- d
	}
	describeAdaptive(descs)
}

func (c *breakerCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, b := range c.breakers() {
		gauge := func(d *prometheus.Desc, v float64, more ...string) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{service}, more...)...)
		}
		gauge(stateDesc, float64(b.State))
		for _, to := range events.States {
			metrics <- prometheus.MustNewConstMetric(changesDesc, prometheus.CounterValue, float64(b.Transitions[to]), service, to.String())
		}
		gauge(probingDesc, boolToFloat(b.Probing))
		for _, state := range forcible {
			gauge(forcedDesc, boolToFloat(b.Forced != nil && b.State == state), state.String())
		}
		gauge(enforcedDesc, boolToFloat(b.Mode == "enforce"))
		gauge(failuresInARowDesc, float64(b.ConsecutiveFailures))
		gauge(failMaxDesc, float64(b.FailMax))
		gauge(failureRatioDesc, b.FailureRatio)
		gauge(failureRatioLimitDesc, b.FailureRatioLimit)
		metrics <- prometheus.MustNewConstMetric(expressionErrorsDesc, prometheus.CounterValue, float64(b.ExpressionErrors), service)
		gauge(algorithmDesc, 1, b.Algorithm)
		gauge(rejectionRatioDesc, b.RejectionRatio)
		gauge(admittedRatioDesc, b.AdmittedRatio)
		collectAdaptive(metrics, service, b.Adaptive)
		collectLatency(metrics, service, b.Latency)
		shadow := func(reason events.Reason, n uint64) {
			metrics <- prometheus.MustNewConstMetric(shadowDesc, prometheus.CounterValue, float64(n), service, string(reason))
		}
		shadow(events.ReasonOpen, b.ShadowRejections.Open)
		shadow(events.ReasonHalfOpenLimit, b.ShadowRejections.HalfOpenLimit)
		shadow(events.ReasonThrottled, b.ShadowRejections.Throttled)
		shadow(events.ReasonRecovering, b.ShadowRejections.Recovering)
	}
}
