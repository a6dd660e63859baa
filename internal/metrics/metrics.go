package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cbproxy/internal/events"
)

// Redis is the condition of Redis.
type Redis struct {
	Up                 bool
	Operations, Errors uint64
}

// Config is what New needs.
type Config struct {
	// Strategies are the names of the registered fallback strategies.
	Strategies []string
	// Version and Commit are the build's.
	Version, Commit string
}

// Sources are the functions that Collect's collectors call at each scrape. Nil sources have no metrics. Redis and
// StoreErrors go together.
type Sources struct {
	// Breakers returns the breakers by service.
	Breakers func() map[string]events.ServiceStatus
	// Redis returns the condition of Redis, false if none is configured.
	Redis func() (Redis, bool)
	// StoreErrors returns the number of failed writes to this instance's own store.
	StoreErrors func() uint64
	// Queues returns the queues by service, and the number of commits of their files.
	Queues func() (byService map[string]events.QueueStatus, commits uint64)
	// Fallbacks returns the fallbacks by service.
	Fallbacks func() map[string]Fallback
	// Faults returns the state of the injected faults by service.
	Faults func() map[string]events.FaultStatus
	// Forecasts returns the forecasts by service.
	Forecasts func() map[string]events.Forecast
	// ConcurrencyLimits returns the limits on requests in flight by service.
	ConcurrencyLimits func() map[string]events.ConcurrencyLimit
	// Endpoints returns the endpoints by service.
	Endpoints func() map[string][]events.EndpointStatus
	// Keys returns the numbers of keys of the services whose requests are judged by key.
	Keys func() map[string]events.KeyCounts
	// Overridden returns the overridden keys of routes by service.
	Overridden func() map[string][]string
	// AccessLogDropped returns the number of access log lines that were dropped.
	AccessLogDropped func() uint64
	// OutcomesLost returns the number of calls that are missing in the record of calls.
	OutcomesLost func() uint64
}

// Metrics holds all metrics of the proxy. It is safe for concurrent use.
type Metrics struct {
	registry   *prometheus.Registry
	strategies []string
	services   sync.Map // *service by name

	requests     *prometheus.CounterVec
	failures     *prometheus.CounterVec
	rejections   *prometheus.CounterVec
	fallbacks    *prometheus.CounterVec
	responseTime *prometheus.HistogramVec
	attempts     *prometheus.CounterVec
	retries      *prometheus.CounterVec
	budgetSpent  *prometheus.CounterVec
	shed         *prometheus.CounterVec
	probes       *prometheus.CounterVec
	healthChecks *prometheus.CounterVec
	hedges       *prometheus.CounterVec
	localErrors  *prometheus.CounterVec
	inFlight     *prometheus.GaugeVec
	reloads      *prometheus.CounterVec
	reloaded     prometheus.Gauge
	reloadTime   prometheus.Gauge
}

// buckets range from the overhead of the proxy to the longest timeouts, in seconds.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// New returns metrics in a new registry.
func New(c Config) *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		strategies: c.Strategies,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enhanced_circuit_breaker_requests_total",
			Help: "Client requests by result.",
		}, []string{"service", "status"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enhanced_circuit_breaker_failures_total",
			Help: "Upstream failures by type.",
		}, []string{"service", "error_type"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_requests_rejected_total",
			Help: "Client requests rejected by the breaker, by a limit or for lack of a local resource, by reason.",
		}, []string{"service", "reason"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enhanced_circuit_breaker_fallbacks_total",
			Help: "Fallback responses by strategy and reason.",
		}, []string{"service", "strategy", "reason"}),
		responseTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "enhanced_circuit_breaker_response_time_seconds",
			Help:                            "Time from a request's arrival to the end of its response, for requests sent to the upstream.",
			Buckets:                         buckets,
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"service"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_upstream_attempts_total",
			Help: "Upstream attempts for client requests, including retries.",
		}, []string{"service"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_upstream_retries_total",
			Help: "Upstream retries.",
		}, []string{"service"}),
		budgetSpent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_retry_budget_spent_total",
			Help: "Client requests that were not retried because the route's retry budget was spent.",
		}, []string{"service"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_requests_shed_total",
			Help: "Client requests rejected by a limit on requests in flight: of the route or of the whole proxy.",
		}, []string{"service", "limit"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_probes_total",
			Help: "Active probes of a half-open breaker by result.",
		}, []string{"service", "result"}),
		healthChecks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_health_checks_total",
			Help: "Health checks of endpoints (breaker.probe.always) by result.",
		}, []string{"service", "result"}),
		hedges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_hedges_total",
			Help: "Second attempts that were sent because the first had not been answered, by whether their response was used (won) or that of the first.",
		}, []string{"service", "result"}),
		localErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_local_errors_total",
			Help: "Attempts, probes, deliveries and requests of fallback strategies that failed for lack of a local resource, by resource. They count neither as success nor as failure of the upstream.",
		}, []string{"kind"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cbproxy_requests_in_flight",
			Help: "Client requests being served.",
		}, []string{"service"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_config_reloads_total",
			Help: "Reloads of the configuration by result.",
		}, []string{"result"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cbproxy_config_last_reload_successful",
			Help: "1 if the last configuration read was accepted, 0 if it was rejected.",
		}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cbproxy_config_last_reload_success_timestamp_seconds",
			Help: "Unix time of the last accepted configuration.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "cbproxy_build_info",
		Help:        "Always 1; the labels identify the build.",
		ConstLabels: prometheus.Labels{"version": c.Version, "commit": c.Commit, "go_version": runtime.Version()},
	})
	build.Set(1)
	for _, kind := range events.LocalErrors {
		m.localErrors.WithLabelValues(string(kind))
	}
	m.reloads.WithLabelValues("success")
	m.reloads.WithLabelValues("failure")
	m.registry.MustRegister(m.requests, m.failures, m.rejections, m.fallbacks, m.responseTime, m.attempts, m.retries, m.budgetSpent, m.shed, m.probes, m.healthChecks, m.hedges, m.localErrors, m.inFlight,
		m.reloads, m.reloaded, m.reloadTime, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Collect registers collectors that read the sources at each scrape. It must be called once.
func (m *Metrics) Collect(s Sources) {
	if s.Breakers != nil {
		m.registry.MustRegister(&breakerCollector{s.Breakers})
	}
	if s.StoreErrors != nil {
		m.registry.MustRegister(&storeCollector{s.Redis, s.StoreErrors})
	}
	if s.Queues != nil {
		m.registry.MustRegister(&queueCollector{s.Queues})
	}
	if s.Fallbacks != nil {
		m.registry.MustRegister(&fallbackCollector{s.Fallbacks})
	}
	if s.Faults != nil {
		m.registry.MustRegister(&faultCollector{s.Faults})
	}
	if s.Forecasts != nil {
		m.registry.MustRegister(&forecastCollector{s.Forecasts})
	}
	if s.Overridden != nil {
		m.registry.MustRegister(&overriddenCollector{s.Overridden})
	}
	if s.ConcurrencyLimits != nil {
		m.registry.MustRegister(&limitCollector{s.ConcurrencyLimits})
	}
	if s.Endpoints != nil {
		m.registry.MustRegister(&endpointCollector{s.Endpoints})
	}
	if s.Keys != nil {
		m.registry.MustRegister(&keyCollector{s.Keys})
	}
	if s.AccessLogDropped != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cbproxy_access_log_dropped_total",
			Help: "Access log lines dropped because the log could not be written fast enough.",
		}, func() float64 { return float64(s.AccessLogDropped()) }))
	}
	if s.OutcomesLost != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cbproxy_outcomes_lost_total",
			Help: "Calls that are missing in the record of calls, because the disk was too slow or failed.",
		}, func() float64 { return float64(s.OutcomesLost()) }))
	}
}

// Handler serves scrapes. With exemplars it also offers the OpenMetrics format, the only text format that has them.
func (m *Metrics) Handler(exemplars bool) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: exemplars})
}

// Gatherer returns the metrics of a scrape.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Reloaded counts a reload that was accepted (ok) or rejected at the given time.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloads.WithLabelValues("failure").Inc()
		m.reloaded.Set(0)
		return
	}
	m.reloads.WithLabelValues("success").Inc()
	m.Loaded(at)
}

// Loaded records when the first configuration was accepted. It does not count as a reload.
func (m *Metrics) Loaded(at time.Time) {
	m.reloaded.Set(1)
	m.reloadTime.Set(float64(at.UnixMilli()) / 1000)
}
