// Package metrics keeps every Prometheus metric in one place: counters fed by the outcome of
// each request, and collectors that ask at each scrape for what is true then.
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

// Breaker is what a scrape wants to know of one breaker.
type Breaker struct {
	State events.State
	// Changes counts the transitions by the state they led to.
	Changes [len(events.States)]uint64
	// ShadowRejections counts the requests that passed in shadow mode and would have been
	// refused, by the reason.
	ShadowRejections map[events.Reason]uint64
	// Probing tells that this instance is the one that may probe for the fleet.
	Probing bool
	// Held tells that an operator holds the breaker in State, and Enforced that it refuses calls when it is
	// open.
	Held, Enforced bool
	// ConsecutiveFailures counts the calls that failed in a row, and FailMax is how many of them
	// open the breaker; 0 if they never do.
	ConsecutiveFailures, FailMax int
	// FailureRatio is the share of failures in the window, 0 while it can't open the breaker, and
	// FailureRatioLimit the share that does; 0 if none does.
	FailureRatio, FailureRatioLimit float64
}

// Redis is what a scrape wants to know of the Redis that instances share.
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
	Breakers func() map[string]Breaker
	// Redis returns the condition of Redis, false if none is configured.
	Redis func() (Redis, bool)
	// StoreErrors returns the number of failed writes to this instance's own store.
	StoreErrors func() uint64
	// Queues returns the queues by service, and the number of commits of their files.
	Queues func() (byService map[string]Queue, commits uint64)
	// Fallbacks returns the fallbacks by service.
	Fallbacks func() map[string]Fallback
	// AccessLogDropped returns the number of access log lines that were dropped.
	AccessLogDropped func() uint64
}

// Metrics is every metric of the proxy. Safe for concurrent use.
type Metrics struct {
	registry   *prometheus.Registry
	strategies []string
	services   sync.Map // *service by name

	requests     *prometheus.CounterVec
	failures     *prometheus.CounterVec
	fallbacks    *prometheus.CounterVec
	responseTime *prometheus.HistogramVec
	attempts     *prometheus.CounterVec
	retries      *prometheus.CounterVec
	budgetSpent  *prometheus.CounterVec
	shed         *prometheus.CounterVec
	probes       *prometheus.CounterVec
	localErrors  *prometheus.CounterVec
	inFlight     *prometheus.GaugeVec
	reloads      *prometheus.CounterVec
	reloaded     prometheus.Gauge
	reloadTime   prometheus.Gauge
}

// buckets reach from a sidecar's own overhead to the longest timeouts.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// New returns metrics on a registry of their own.
func New(c Config) *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		strategies: c.Strategies,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enhanced_circuit_breaker_requests_total",
			Help: "Client requests by how they ended.",
		}, []string{"service", "status"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enhanced_circuit_breaker_failures_total",
			Help: "Failures of the upstream by type.",
		}, []string{"service", "error_type"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "enhanced_circuit_breaker_fallbacks_total",
			Help: "Responses given in the upstream's place, by strategy and reason.",
		}, []string{"service", "strategy", "reason"}),
		responseTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "enhanced_circuit_breaker_response_time_seconds",
			Help:                            "Time from a request's arrival to the end of its response, for requests the upstream was asked.",
			Buckets:                         buckets,
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"service"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_upstream_attempts_total",
			Help: "Requests sent to the upstream for clients, retries among them.",
		}, []string{"service"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_upstream_retries_total",
			Help: "Requests sent to the upstream again.",
		}, []string{"service"}),
		budgetSpent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_retry_budget_spent_total",
			Help: "Client requests that were not retried because the route's retry budget was spent.",
		}, []string{"service"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_requests_shed_total",
			Help: "Client requests turned away by a limit on requests in flight: the route's own, or the whole proxy's.",
		}, []string{"service", "limit"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_probes_total",
			Help: "Active probes of a half-open breaker by result.",
		}, []string{"service", "result"}),
		localErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cbproxy_local_errors_total",
			Help: "Attempts, probes and deliveries that this machine could not carry out, by what it lacked. They count neither for nor against the upstream.",
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
			Help: "1 if the last configuration read was accepted, 0 if it was refused.",
		}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cbproxy_config_last_reload_success_timestamp_seconds",
			Help: "Unix time of the last configuration that was accepted.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "cbproxy_build_info",
		Help:        "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": c.Version, "commit": c.Commit, "go_version": runtime.Version()},
	})
	build.Set(1)
	for _, kind := range events.LocalErrors {
		m.localErrors.WithLabelValues(string(kind))
	}
	m.reloads.WithLabelValues("success")
	m.reloads.WithLabelValues("failure")
	m.registry.MustRegister(m.requests, m.failures, m.fallbacks, m.responseTime, m.attempts, m.retries, m.budgetSpent, m.shed, m.probes, m.localErrors, m.inFlight,
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
	if s.AccessLogDropped != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "cbproxy_access_log_dropped_total",
			Help: "Access log lines dropped because the log could not be written fast enough.",
		}, func() float64 { return float64(s.AccessLogDropped()) }))
	}
}

// Handler serves a scrape. With exemplars, which no other text format has, it does so in
// OpenMetrics for whoever prefers that.
func (m *Metrics) Handler(exemplars bool) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: exemplars})
}

// Gatherer is what a scrape shows.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Reloaded counts a reload that was accepted or refused at the given time.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloads.WithLabelValues("failure").Inc()
		m.reloaded.Set(0)
		return
	}
	m.reloads.WithLabelValues("success").Inc()
	m.Loaded(at)
}

// Loaded tells when the configuration that is in force was accepted, without counting a
// reload: it is called for the first one.
func (m *Metrics) Loaded(at time.Time) {
	m.reloaded.Set(1)
	m.reloadTime.Set(float64(at.UnixMilli()) / 1000)
}
