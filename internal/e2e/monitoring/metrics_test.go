package monitoring

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// monitoredProxy is a proxy whose configuration and traffic produce every metric that dashboard and rules use. It has two
// requests in the queue of notifier_service. The upstream of vms_service stays alive, so that there are predictions for it.
type monitoredProxy struct {
	*harness.Proxy
	upstream *harness.Upstream
}

func startMonitoredProxy(t testing.TB) monitoredProxy {
	t.Helper()
	server, u, second := redistest.Start(t), harness.StartUpstream(t), harness.StartUpstream(t)
	p := monitoredProxy{harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`redis: {url: %q}
routes:
  rag_service: {upstream: %q, max_in_flight: auto, retry: {attempts: 1, backoff: 1ms}, breaker: {fail_max: 2, failure_ratio: 0.5, min_requests: 1000, recovery_timeout: 600, adaptive: {mode: shadow}}}
  notifier_service: {upstream: %q}
  vms_service: {upstream: %q, hedge: {after: 1ns, max_ratio: 1}}
fallbacks:
  rag_service: {try: [cache, upstream, static], upstream: {url: %q}, static: {body: {}}}
`, server.URL(), u.URL(), second.URL(), second.URL(), second.URL())}), u}
	p.AwaitRedis(true)
	for range 5 {
		if r := p.Get("/rag/query"); r.Status != http.StatusOK {
			t.Fatalf("response %+v, want status 200", r)
		}
	}
	if r := p.Force("notifier_service", `{"state": "open", "reason": "so that requests are queued"}`); r.Status != http.StatusOK {
		t.Fatalf("force open: %+v", r)
	}
	p.overrideKey()
	for range 2 {
		if r := p.Send(http.MethodPost, "/notify/alarm", "fire"); r.Status != http.StatusAccepted {
			t.Fatalf("response %+v, want status 202", r)
		}
	}
	return p
}

// overrideKey overrides a key of rag_service.
func (p monitoredProxy) overrideKey() {
	p.T.Helper()
	body := `{"set": {"breaker.min_requests": 2000}, "duration": "1h", "reason": "a test"}`
	if r := p.AdminSend(http.MethodPut, "/api/v1/circuit-breakers/rag_service/overrides", body); r.Status != http.StatusOK {
		p.T.Fatalf("override a key: %+v", r)
	}
}

// killUpstream kills the upstream of rag_service and waits until its breaker is open. The cache responds meanwhile.
func (p monitoredProxy) killUpstream() {
	p.T.Helper()
	p.upstream.Kill()
	harness.Eventually(p.T, "the breaker opens", func() bool {
		p.Get("/rag/query")
		return p.Health().Services["rag_service"].State == "open"
	})
}

// forecastMetrics are the metrics that have no sample before there are calls of a minute, or of several, and their labels besides service.
var forecastMetrics = map[string][]string{
	"cbproxy_success_ratio": {"window"}, "cbproxy_success_ratio_predicted": {"horizon"}, "cbproxy_success_ratio_trend": nil,
	"cbproxy_latency_predicted_seconds": {"horizon"}, "cbproxy_time_to_open_seconds": nil,
	"cbproxy_prediction_error": {"horizon"}, "cbproxy_prediction_error_as_now": {"horizon"},
}

// TestQueriesUseExistingMetrics checks that the metrics, labels and label values in the rules and in the dashboard's
// queries exist.
func TestQueriesUseExistingMetrics(t *testing.T) {
	t.Parallel()
	metrics := parseLabels(t, startMonitoredProxy(t).Metrics())
	for name, labels := range forecastMetrics {
		metrics[name] = map[string][]string{"job": {"cbproxy"}, "namespace": {"default"}, "instance": {"127.0.0.1:9901"}, "service": {"vms_service"}}
		for _, label := range labels {
			metrics[name][label] = []string{"30s"}
		}
	}
	rules := readRules(t)
	for _, r := range rules {
		if r.Record != "" {
			labels := map[string][]string{}
			switch kind, _, _ := strings.Cut(r.Record, ":"); kind {
			case "service":
				labels = map[string][]string{"job": {"cbproxy"}, "namespace": {"default"}, "service": {"rag_service"}}
			case "instance":
				labels = map[string][]string{"job": {"cbproxy"}, "namespace": {"default"}, "instance": {"127.0.0.1:9901"}}
			}
			metrics[r.Record] = labels
		}
	}
	for _, r := range rules {
		for _, problem := range metrics.check(r.Expr) {
			t.Errorf("%s%s: %s", r.Alert, r.Record, problem)
		}
	}
	d := readDashboard(t)
	for title, query := range d.queries() {
		for _, problem := range metrics.check(query) {
			t.Errorf("%s: %s", title, problem)
		}
	}
	for _, query := range pageQueries(t) {
		for _, problem := range metrics.check(query) {
			t.Errorf("docs/choosing.md: %s: %s", query, problem)
		}
	}
	definition := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, v := range d.Templating.List[1:] {
		if c := definition.FindStringSubmatch(v.Definition); c == nil || len(metrics[c[1]][c[2]]) == 0 {
			t.Errorf("variable %s has no values: %s", v.Name, v.Definition)
		}
	}
}

// learntQuantiles are the lines of a gauge with quantiles. promtool accepts the label quantile for summaries only, but a summary also has a
// sum and a count that only grow, and these are the quantiles of the last 24 hours with calls.
var learntQuantiles = regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?cbproxy_baseline_latency_seconds[ {].*\n`)

// TestMetricsPassPromtoolCheck runs promtool check metrics.
func TestMetricsPassPromtoolCheck(t *testing.T) {
	t.Parallel()
	requirePrometheus(t)
	metrics := learntQuantiles.ReplaceAllString(startMonitoredProxy(t).Metrics(), "")
	if output := runPromtool(t, metrics, "check", "metrics"); output != "" {
		t.Error(output)
	}
}

// TestBreakerMetricsShowCountsLimitsAndForcedStates checks that a breaker's metrics show its failures and their limits,
// and whether its state is forced.
func TestBreakerMetricsShowCountsLimitsAndForcedStates(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`routes:
  svc: {prefix: /svc, upstream: %q, breaker: {fail_max: 5, failure_ratio: 0.9, min_requests: 4, window: 600}}
  idle: {prefix: /idle, upstream: %q, breaker: {fail_max: 0, failure_ratio: 0.5}}
`, u.URL(), u.URL())})
	check := func(service string, consecutive, limit, ratio, ratioLimit, forcedOpen, forcedClosed float64) {
		t.Helper()
		for series, want := range map[string]float64{
			"cbproxy_consecutive_failures": consecutive, "cbproxy_consecutive_failures_limit": limit,
			"cbproxy_failure_ratio": ratio, "cbproxy_failure_ratio_limit": ratioLimit,
		} {
			if got := p.Metric(fmt.Sprintf("%s{service=%q}", series, service)); got != want {
				t.Errorf("%s of %s is %v, want %v", series, service, got, want)
			}
		}
		for state, want := range map[string]float64{"open": forcedOpen, "closed": forcedClosed} {
			if got := p.Metric(fmt.Sprintf("cbproxy_forced{service=%q,state=%q}", service, state)); got != want {
				t.Errorf("cbproxy_forced of %s with state %s is %v, want %v", service, state, got, want)
			}
		}
	}
	check("svc", 0, 5, 0, 0.9, 0, 0)
	check("idle", 0, 0, 0, 0.5, 0, 0)
	p.Get("/svc")
	u.Kill()
	p.Get("/svc")
	p.Get("/svc")
	check("svc", 2, 5, 0, 0.9, 0, 0) // the ratio is 0 below min_requests
	p.Get("/svc")
	check("svc", 3, 5, 0.75, 0.9, 0, 0)
	harness.ForceState(t, p, "closed")
	check("svc", 0, 5, 0, 0.9, 0, 1)
	harness.ForceState(t, p, "open")
	check("svc", 0, 5, 0, 0.9, 1, 0)
	harness.ForceState(t, p, "auto")
	check("svc", 0, 5, 0, 0.9, 0, 0)
	check("idle", 0, 0, 0, 0.5, 0, 0)
}
