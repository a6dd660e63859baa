package metrics_test

import (
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/metrics"
)

func scrape(m *metrics.Metrics) string {
	w := httptest.NewRecorder()
	m.Handler(false).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func newMetrics(state events.State, redis bool) *metrics.Metrics {
	m := metrics.New(metrics.Config{Strategies: []string{"static"}, Version: "v1", Commit: "abc"})
	m.Collect(metrics.Sources{
		Breakers: func() map[string]events.ServiceStatus {
			b := events.BreakerStatus{
				State: state, Transitions: [3]uint64{1, 2, 3}, ConsecutiveFailures: 4,
				ShadowRejections: events.ShadowRejections{Open: 4, HalfOpenLimit: 5},
				Latency:          events.Latency{P50: 0.5, P95: 1.5, P99: 2.5},
				Adaptive: &events.Baseline{
					Mode: "shadow", Demoted: true, FailureRatio: 0.02, Evidence: 0.5, Openings: events.AdaptiveOpenings{Earlier: 7, OnlyAdaptive: 8, Refuted: 9},
				},
			}
			if state == events.Open {
				b.Forced = &events.ForcedState{State: state}
			}
			mode := "shadow"
			if state != events.Closed {
				mode = "enforce"
			}
			return map[string]events.ServiceStatus{"svc": {
				BreakerStatus: b, Mode: mode, FailMax: 5, FailureRatio: 0.25, FailureRatioLimit: 0.5, Probing: true,
			}}
		},
		Redis:       func() (metrics.Redis, bool) { return metrics.Redis{Up: true, Operations: 7, Errors: 2}, redis },
		StoreErrors: func() uint64 { return 3 },
		Faults: func() map[string]events.FaultStatus {
			return map[string]events.FaultStatus{"svc": {Active: 2, Injected: map[events.FaultKind]uint64{events.FaultCut: 6}}}
		},
	})
	return m
}

// zeroSeries returns the series that a service has before its first request, all with the value 0.
func zeroSeries(service string) (series []string) {
	for _, status := range []string{"success", "failure", "rejected", "cancelled"} {
		series = append(series, fmt.Sprintf(`enhanced_circuit_breaker_requests_total{service=%q,status=%q} 0`, service, status))
	}
	for _, kind := range []string{"connect", "timeout", "reset", "protocol", "status", "truncated", "idle", "grpc", "sse", "slow"} {
		series = append(series, fmt.Sprintf(`enhanced_circuit_breaker_failures_total{error_type=%q,service=%q} 0`, kind, service))
	}
	for _, reason := range []string{"open", "half_open_limit", "throttled", "recovering", "connect", "timeout", "reset", "status", "overload"} {
		series = append(series, fmt.Sprintf(`enhanced_circuit_breaker_fallbacks_total{reason=%q,service=%q,strategy="static"} 0`, reason, service))
	}
	for _, name := range []string{
		"enhanced_circuit_breaker_response_time_seconds_count", "cbproxy_requests_in_flight", "cbproxy_upstream_attempts_total",
		"cbproxy_upstream_retries_total", "cbproxy_retry_budget_spent_total",
	} {
		series = append(series, fmt.Sprintf(`%s{service=%q} 0`, name, service))
	}
	for _, limit := range []string{"route", "proxy"} {
		series = append(series, fmt.Sprintf(`cbproxy_requests_shed_total{limit=%q,service=%q} 0`, limit, service))
	}
	for _, result := range []string{"success", "failure"} {
		series = append(series, fmt.Sprintf(`cbproxy_probes_total{result=%q,service=%q} 0`, result, service))
		series = append(series, fmt.Sprintf(`cbproxy_health_checks_total{result=%q,service=%q} 0`, result, service))
	}
	for _, result := range []string{"won", "lost"} {
		series = append(series, fmt.Sprintf(`cbproxy_hedges_total{result=%q,service=%q} 0`, result, service))
	}
	return series
}

func TestSeriesExistFromStartUntilForget(t *testing.T) {
	m := newMetrics(events.Closed, false)
	m.Service("svc")
	m.Service("other")
	text := scrape(m)
	for _, series := range append(zeroSeries("svc"), zeroSeries("other")...) {
		if !strings.Contains(text, series+"\n") {
			t.Errorf("no %s", series)
		}
	}
	m.Forget("other")
	text = scrape(m)
	if strings.Contains(text, `"other"`) {
		t.Error("Forget left series of its service")
	}
	for _, series := range zeroSeries("svc") {
		if !strings.Contains(text, series+"\n") {
			t.Errorf("Forget of another service removed %s", series)
		}
	}
}

func TestOutcomesAreCountedOnce(t *testing.T) {
	m := newMetrics(events.HalfOpen, true)
	s := m.Service("svc")
	s.Begin()
	if !strings.Contains(scrape(m), `cbproxy_requests_in_flight{service="svc"} 1`) {
		t.Error("a started request is not in flight")
	}
	s.Failed(events.ErrorReset, 1)
	s.Failed(events.ErrorTimeout, 1)
	s.End(&events.Outcome{
		Result: events.ResultFailure, Failure: &events.Failure{Type: events.ErrorTimeout},
		Strategy: "static", Reason: events.ReasonTimeout, Attempts: 2, RetryBudgetSpent: true, Duration: 30 * time.Millisecond,
	})
	s.Begin()
	s.End(&events.Outcome{Result: events.ResultRejected, Strategy: "static", Reason: events.ReasonOpen, Shed: events.ShedByProxy})
	s.Failed(events.ErrorSlow, 12)
	s.Probed(true)
	s.Begin()
	s.HealthChecked(true)
	s.HealthChecked(false)
	s.HealthChecked(false)
	s.Hedged(true)
	s.Hedged(true)
	s.Hedged(false)
	s.End(&events.Outcome{Result: events.ResultSuccess, Attempts: 2, Hedged: true, Duration: time.Hour})
	text := scrape(m)
	for _, series := range []string{
		`enhanced_circuit_breaker_requests_total{service="svc",status="failure"} 1`,
		`enhanced_circuit_breaker_requests_total{service="svc",status="rejected"} 1`,
		`cbproxy_requests_rejected_total{reason="open",service="svc"} 1`,
		`cbproxy_requests_rejected_total{reason="timeout",service="svc"} 0`,
		`enhanced_circuit_breaker_failures_total{error_type="timeout",service="svc"} 1`,
		`enhanced_circuit_breaker_fallbacks_total{reason="timeout",service="svc",strategy="static"} 1`,
		`enhanced_circuit_breaker_fallbacks_total{reason="open",service="svc",strategy="static"} 1`,
		`enhanced_circuit_breaker_response_time_seconds_count{service="svc"} 2`,
		`enhanced_circuit_breaker_response_time_seconds_bucket{service="svc",le="0.05"} 1`,
		`enhanced_circuit_breaker_failures_total{error_type="reset",service="svc"} 1`,
		`enhanced_circuit_breaker_failures_total{error_type="slow",service="svc"} 12`,
		`cbproxy_upstream_attempts_total{service="svc"} 4`,
		`cbproxy_upstream_retries_total{service="svc"} 1`,
		`cbproxy_retry_budget_spent_total{service="svc"} 1`,
		`cbproxy_requests_shed_total{limit="proxy",service="svc"} 1`,
		`cbproxy_probes_total{result="success",service="svc"} 1`,
		`cbproxy_health_checks_total{result="success",service="svc"} 1`,
		`cbproxy_health_checks_total{result="failure",service="svc"} 2`,
		`cbproxy_hedges_total{result="won",service="svc"} 2`,
		`cbproxy_hedges_total{result="lost",service="svc"} 1`,
		`cbproxy_shadow_rejections_total{reason="open",service="svc"} 4`,
		`cbproxy_shadow_rejections_total{reason="half_open_limit",service="svc"} 5`,
		`cbproxy_requests_in_flight{service="svc"} 0`,
		`enhanced_circuit_breaker_state{service="svc"} 2`,
		`cbproxy_state_changes_total{service="svc",to="open"} 2`,
		`cbproxy_fleet_probing{service="svc"} 1`,
		`cbproxy_consecutive_failures{service="svc"} 4`,
		`cbproxy_consecutive_failures_limit{service="svc"} 5`,
		`cbproxy_failure_ratio{service="svc"} 0.25`,
		`cbproxy_failure_ratio_limit{service="svc"} 0.5`,
		`cbproxy_faults_active{service="svc"} 2`,
		`cbproxy_faults_injected_total{kind="cut",service="svc"} 6`,
		`cbproxy_faults_injected_total{kind="abort",service="svc"} 0`,
		`cbproxy_faults_injected_total{kind="delay",service="svc"} 0`,
		`cbproxy_faults_injected_total{kind="reset",service="svc"} 0`,
		`cbproxy_redis_up 1`,
		`cbproxy_redis_operations_total 7`,
		`cbproxy_redis_errors_total 2`,
		`cbproxy_store_errors_total 3`,
	} {
		if !strings.Contains(text, series+"\n") {
			t.Errorf("no %s", series)
		}
	}
}

func TestForcedStateIsExported(t *testing.T) {
	for state, want := range map[events.State][2]int{events.Open: {1, 0}, events.Closed: {0, 0}, events.HalfOpen: {0, 0}} {
		text := scrape(newMetrics(state, false))
		for i, forced := range []string{"open", "closed"} {
			if line := fmt.Sprintf("cbproxy_forced{service=\"svc\",state=%q} %d\n", forced, want[i]); !strings.Contains(text, line) {
				t.Errorf("%v: no %s", state, line)
			}
		}
	}
}

func TestWhatIsLearntIsExported(t *testing.T) {
	text := scrape(newMetrics(events.Closed, false))
	for _, series := range []string{
		`cbproxy_baseline_failure_ratio{service="svc"} 0.02`, `cbproxy_adaptive_evidence_ratio{service="svc"} 0.5`,
		`cbproxy_adaptive_openings_total{service="svc",verdict="earlier"} 7`, `cbproxy_adaptive_openings_total{service="svc",verdict="only_adaptive"} 8`,
		`cbproxy_adaptive_openings_total{service="svc",verdict="refuted"} 9`, `cbproxy_adaptive_mode{mode="shadow",service="svc"} 1`,
		`cbproxy_baseline_latency_seconds{quantile="0.5",service="svc"} 0.5`, `cbproxy_baseline_latency_seconds{quantile="0.95",service="svc"} 1.5`,
		`cbproxy_baseline_latency_seconds{quantile="0.99",service="svc"} 2.5`,
		`cbproxy_adaptive_mode{mode="enforce",service="svc"} 0`, `cbproxy_adaptive_demoted{service="svc"} 1`,
	} {
		if !strings.Contains(text, series+"\n") {
			t.Errorf("missing: %s", series)
		}
	}
}

func TestEnforcedIsExported(t *testing.T) {
	for state, want := range map[events.State]string{events.Open: "1", events.Closed: "0"} {
		if text := scrape(newMetrics(state, false)); !strings.Contains(text, "cbproxy_enforced{service=\"svc\"} "+want+"\n") {
			t.Errorf("%v: cbproxy_enforced is not %s", state, want)
		}
	}
}

func TestReloadsAreCounted(t *testing.T) {
	m := newMetrics(events.Closed, false)
	at := time.UnixMilli(1_700_000_000_500)
	m.Loaded(at)
	m.Reloaded(false, at.Add(time.Minute))
	text := scrape(m)
	for _, series := range []string{
		`cbproxy_config_reloads_total{result="success"} 0`,
		`cbproxy_config_reloads_total{result="failure"} 1`,
		`cbproxy_config_last_reload_successful 0`,
		`cbproxy_config_last_reload_success_timestamp_seconds 1.7000000005e+09`,
		`version="v1"`,
	} {
		if !strings.Contains(text, series) {
			t.Errorf("no %s", series)
		}
	}
	m.Reloaded(true, at.Add(time.Hour))
	if text := scrape(m); !strings.Contains(text, "cbproxy_config_last_reload_successful 1") {
		t.Error("cbproxy_config_last_reload_successful is not 1 after an accepted reload")
	}
}

func TestQueuesAndFallbacksAreExported(t *testing.T) {
	oldest := time.Now().Add(-3500 * time.Millisecond)
	m := metrics.New(metrics.Config{})
	m.Collect(metrics.Sources{
		Queues: func() (map[string]events.QueueStatus, uint64) {
			return map[string]events.QueueStatus{"svc": {
				Waiting: 1, Dead: 2, Oldest: &oldest, Accepted: 4, Delivered: 5, Retried: 6, Died: 7, Lost: 8, TakenOver: 9, Released: 10,
			}, "none": {}}, 11
		},
		Fallbacks: func() map[string]metrics.Fallback {
			return map[string]metrics.Fallback{
				"svc":  {Cache: metrics.Cache{Hits: 1, Misses: 2, Stored: 3, Evicted: 4, Entries: 5, Bytes: 6}, HasUpstream: true, Upstream: events.HalfOpen},
				"none": {},
			}
		},
	})
	text := scrape(m)
	for series, want := range map[string]float64{
		"cbproxy_queue_depth": 1, "cbproxy_queue_dead": 2, "cbproxy_queue_accepted_total": 4,
		"cbproxy_queue_delivered_total": 5, "cbproxy_queue_retried_total": 6, "cbproxy_queue_dead_total": 7, "cbproxy_queue_lost_total": 8,
		"cbproxy_queue_taken_over_total": 9, "cbproxy_queue_surrendered_total": 10,
		"cbproxy_cache_hits_total": 1, "cbproxy_cache_misses_total": 2, "cbproxy_cache_stored_total": 3, "cbproxy_cache_evicted_total": 4,
		"cbproxy_cache_entries": 5, "cbproxy_cache_bytes": 6, "cbproxy_fallback_upstream_state": 2,
	} {
		if line := fmt.Sprintf("%s{service=%q} %v\n", series, "svc", want); !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
		line := fmt.Sprintf("%s{service=%q} 0\n", series, "none")
		if strings.Contains(text, line) != (series != "cbproxy_fallback_upstream_state") {
			t.Errorf("%s of a service without a queue, cache and fallback upstream: present %v", series, strings.Contains(text, line))
		}
	}
	if !strings.Contains(text, `cbproxy_queue_oldest_age_seconds{service="svc"} 3.5`) || !strings.Contains(text, `cbproxy_queue_oldest_age_seconds{service="none"} 0`) {
		t.Error("no cbproxy_queue_oldest_age_seconds")
	}
	if !strings.Contains(text, "cbproxy_queue_commits_total 11\n") {
		t.Error("no cbproxy_queue_commits_total")
	}
}

func TestForecastsAreExported(t *testing.T) {
	f := events.NewForecast("")
	f.SuccessRatio = [3]float64{0.9, math.NaN(), 0.7}
	f.Trend, f.TimeToOpen = -0.1, math.Inf(1)
	f.Predictions[0] = events.Prediction{
		SuccessRatio: 0.6, Latency: 2, SuccessRatioError: events.ForecastError{Predicted: 0.01, AsNow: 0.02},
		LatencyError: events.ForecastError{Predicted: math.NaN(), AsNow: math.NaN()},
	}
	m := metrics.New(metrics.Config{})
	m.Collect(metrics.Sources{Forecasts: func() map[string]events.Forecast {
		return map[string]events.Forecast{"svc": f, "none": events.NewForecast(events.ForecastStarting)}
	}})
	text := scrape(m)
	for series, want := range map[string]string{
		`cbproxy_success_ratio{service="svc",window="1m"}`: "0.9", `cbproxy_success_ratio{service="svc",window="1h"}`: "0.7",
		`cbproxy_success_ratio_trend{service="svc"}`: "-0.1", `cbproxy_time_to_open_seconds{service="svc"}`: "+Inf",
		`cbproxy_success_ratio_predicted{horizon="30s",service="svc"}`: "0.6", `cbproxy_latency_predicted_seconds{horizon="30s",service="svc"}`: "2",
		`cbproxy_prediction_error{horizon="30s",service="svc"}`: "0.01", `cbproxy_prediction_error_as_now{horizon="30s",service="svc"}`: "0.02",
	} {
		if !strings.Contains(text, series+" "+want+"\n") {
			t.Errorf("no line %s %s", series, want)
		}
	}
	if n := strings.Count(text, `service="`); n != 8 || strings.Contains(text, "NaN") {
		t.Errorf("%d series of forecasts in\n%s", n, text)
	}
}

func TestConcurrencyLimitsAreExported(t *testing.T) {
	m := metrics.New(metrics.Config{})
	m.Collect(metrics.Sources{ConcurrencyLimits: func() map[string]events.ConcurrencyLimit {
		return map[string]events.ConcurrencyLimit{"svc": {Limit: 34, InFlight: 5, Auto: true}}
	}})
	if text := scrape(m); !strings.Contains(text, "cbproxy_concurrency_limit{service=\"svc\"} 34\n") {
		t.Error("no limit on requests in flight")
	}
}

func TestEndpointsAreExported(t *testing.T) {
	m := metrics.New(metrics.Config{})
	many := make([]events.EndpointStatus, 100)
	for i := range many {
		many[i].URL = fmt.Sprintf("http://10.0.0.%d", i)
	}
	m.Collect(metrics.Sources{Endpoints: func() map[string][]events.EndpointStatus {
		return map[string][]events.EndpointStatus{
			"svc":  {{URL: "http://a:1", State: events.EndpointIn, InFlight: 3}, {URL: "http://a:2", State: events.EndpointEjected, Ejections: 4}},
			"many": many, "none": nil, "twice": {{URL: "http://b:1"}, {URL: "http://b:1"}},
		}
	}})
	text := scrape(m)
	for _, series := range []string{
		`cbproxy_endpoint_up{endpoint="http://a:1",service="svc"} 1`, `cbproxy_endpoint_up{endpoint="http://a:2",service="svc"} 0`,
		`cbproxy_endpoint_in_flight{endpoint="http://a:1",service="svc"} 3`, `cbproxy_endpoint_ejections_total{endpoint="http://a:2",service="svc"} 4`,
	} {
		if !strings.Contains(text, series+"\n") {
			t.Errorf("no line %s", series)
		}
	}
	if n := strings.Count(text, `service="many"`); n != 3*64 {
		t.Errorf("%d series of 100 endpoints, want those of 64", n)
	}
}
