package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

// service holds the series of one service, so that requests need no lookup.
type service struct {
	requests     map[events.Result]prometheus.Counter
	failures     map[events.ErrorType]prometheus.Counter
	rejections   map[events.Reason]prometheus.Counter
	fallbacks    map[fallback]prometheus.Counter
	responseTime prometheus.ExemplarObserver
	attempts     prometheus.Counter
	retries      prometheus.Counter
	budgetSpent  prometheus.Counter
	shed         map[events.Shed]prometheus.Counter
	probes       map[bool]prometheus.Counter
	healthChecks map[bool]prometheus.Counter
	hedges       map[bool]prometheus.Counter
	localErrors  *prometheus.CounterVec // not per service
	inFlight     prometheus.Gauge
}

type fallback struct {
	strategy string
	reason   events.Reason
}

// Service returns the observer of a service and creates all of its series at zero.
func (m *Metrics) Service(name string) events.Observer {
	s := &service{
		requests:     map[events.Result]prometheus.Counter{},
		failures:     map[events.ErrorType]prometheus.Counter{},
		rejections:   map[events.Reason]prometheus.Counter{},
		fallbacks:    map[fallback]prometheus.Counter{},
		responseTime: m.responseTime.WithLabelValues(name).(prometheus.ExemplarObserver), // implemented by histograms
		attempts:     m.attempts.WithLabelValues(name),
		retries:      m.retries.WithLabelValues(name),
		budgetSpent:  m.budgetSpent.WithLabelValues(name),
		shed:         map[events.Shed]prometheus.Counter{},
		probes: map[bool]prometheus.Counter{
			true: m.probes.WithLabelValues(name, "success"), false: m.probes.WithLabelValues(name, "failure"),
		},
		healthChecks: map[bool]prometheus.Counter{
			true: m.healthChecks.WithLabelValues(name, "success"), false: m.healthChecks.WithLabelValues(name, "failure"),
		},
		hedges:      map[bool]prometheus.Counter{true: m.hedges.WithLabelValues(name, "won"), false: m.hedges.WithLabelValues(name, "lost")},
		localErrors: m.localErrors,
		inFlight:    m.inFlight.WithLabelValues(name),
	}
	for _, r := range events.Results {
		s.requests[r] = m.requests.WithLabelValues(name, string(r))
	}
	for _, t := range events.ErrorTypes {
		s.failures[t] = m.failures.WithLabelValues(name, string(t))
	}
	for _, limit := range events.Sheds {
		s.shed[limit] = m.shed.WithLabelValues(name, string(limit))
	}
	for _, reason := range events.Reasons {
		s.rejections[reason] = m.rejections.WithLabelValues(name, string(reason))
	}
	for _, strategy := range m.strategies {
		for _, reason := range events.Reasons {
			s.fallbacks[fallback{strategy, reason}] = m.fallbacks.WithLabelValues(name, strategy, string(reason))
		}
	}
	m.services.Store(name, s)
	return s
}

// Forget deletes all series of a service. Requests in flight no longer count.
func (m *Metrics) Forget(name string) {
	m.services.Delete(name)
	labels := prometheus.Labels{"service": name}
	m.requests.DeletePartialMatch(labels)
	m.failures.DeletePartialMatch(labels)
	m.rejections.DeletePartialMatch(labels)
	m.fallbacks.DeletePartialMatch(labels)
	m.responseTime.DeletePartialMatch(labels)
	m.attempts.DeletePartialMatch(labels)
	m.retries.DeletePartialMatch(labels)
	m.budgetSpent.DeletePartialMatch(labels)
	m.shed.DeletePartialMatch(labels)
	m.probes.DeletePartialMatch(labels)
	m.healthChecks.DeletePartialMatch(labels)
	m.hedges.DeletePartialMatch(labels)
	m.inFlight.DeletePartialMatch(labels)
}

// Begin implements events.Observer.
func (s *service) Begin() { s.inFlight.Inc() }

// Failed implements events.Observer.
func (s *service) Failed(kind events.ErrorType, n int) { s.failures[kind].Add(float64(n)) }

// FailedLocally implements events.Observer.
func (s *service) FailedLocally(kind events.LocalError) {
	s.localErrors.WithLabelValues(string(kind)).Inc()
}

// Probed implements events.Observer.
func (s *service) Probed(ok bool) { s.probes[ok].Inc() }

// HealthChecked implements events.Observer.
func (s *service) HealthChecked(ok bool) { s.healthChecks[ok].Inc() }

// Hedged implements events.Observer.
func (s *service) Hedged(won bool) { s.hedges[won].Inc() }

// End implements events.Observer.
func (s *service) End(o *events.Outcome) {
	s.inFlight.Dec()
	s.requests[o.Result].Inc()
	if c, ok := s.rejections[o.Reason]; ok && o.Result == events.ResultRejected {
		c.Inc()
	}
	if o.Strategy != "" {
		s.fallbacks[fallback{o.Strategy, o.Reason}].Inc()
	}
	if o.Shed != "" {
		s.shed[o.Shed].Inc()
	}
	if o.RetryBudgetSpent {
		s.budgetSpent.Inc()
	}
	if o.Attempts > 0 {
		s.attempts.Add(float64(o.Attempts))
		s.observeTime(o)
	}
	if n := retriesOf(o); n > 0 {
		s.retries.Add(float64(n))
	}
}

// retriesOf returns how many attempts were made because earlier ones had failed.
func retriesOf(o *events.Outcome) int {
	if o.Hedged {
		return o.Attempts - 2
	}
	return o.Attempts - 1
}

// observeTime observes the response time, with an exemplar if the request is traced.
func (s *service) observeTime(o *events.Outcome) {
	var exemplar prometheus.Labels
	if o.TraceID != "" {
		exemplar = prometheus.Labels{"trace_id": o.TraceID, "span_id": o.SpanID}
	}
	s.responseTime.ObserveWithExemplar(o.Duration.Seconds(), exemplar)
}
