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

// watched is a proxy that uses everything there is a metric for, and has had some traffic: answers,
// some out of the cache, and two requests in the queue.
type watched struct {
	*harness.Proxy
	upstream *harness.Upstream
}

func startWatched(t testing.TB) watched {
	t.Helper()
	server, u, second := redistest.Start(t), harness.StartUpstream(t), harness.StartUpstream(t)
	w := watched{harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`redis: {url: %q}
routes:
  rag_service: {upstream: %q, retry: {attempts: 1, backoff: 1ms}, breaker: {fail_max: 2, failure_ratio: 0.5, min_requests: 1000, recovery_timeout: 600}}
  notifier_service: {upstream: %q}
fallbacks:
  rag_service: {try: [cache, upstream, static], upstream: {url: %q}, static: {body: {}}}
`, server.URL(), u.URL(), second.URL(), second.URL())}), u}
	w.AwaitRedis(true)
	for range 5 {
		if r := w.Get("/rag/query"); r.Status != http.StatusOK {
			t.Fatalf("%+v", r)
		}
	}
	if r := w.Force("notifier_service", `{"state": "open", "reason": "so that something waits"}`); r.Status != http.StatusOK {
		t.Fatalf("%+v", r)
	}
	for range 2 {
		if r := w.Send(http.MethodPost, "/notify/alarm", "fire"); r.Status != http.StatusAccepted {
			t.Fatalf("%+v", r)
		}
	}
	return w
}

// killUpstream lets the breaker of rag_service open, while its cache answers.
func (w watched) killUpstream() {
	w.T.Helper()
	w.upstream.Kill()
	harness.Eventually(w.T, "the breaker opens", func() bool {
		w.Get("/rag/query")
		return w.Health().Services["rag_service"].State == "open"
	})
}

func TestQueriesUseExistingMetrics(t *testing.T) {
	t.Parallel()
	e := exposed(t, startWatched(t).Metrics())
	rules := ruleFiles(t)
	for _, r := range rules {
		if r.Record != "" {
			labels := map[string][]string{}
			switch kind, _, _ := strings.Cut(r.Record, ":"); kind {
			case "service":
				labels = map[string][]string{"job": {"cbproxy"}, "namespace": {"default"}, "service": {"rag_service"}}
			case "instance":
				labels = map[string][]string{"job": {"cbproxy"}, "namespace": {"default"}, "instance": {"127.0.0.1:9901"}}
			}
			e[r.Record] = labels
		}
	}
	for _, r := range rules {
		for _, fault := range e.check(r.Expr) {
			t.Errorf("%s%s: %s", r.Alert, r.Record, fault)
		}
	}
	d := readDashboard(t)
	for title, query := range d.queries() {
		for _, fault := range e.check(query) {
			t.Errorf("%s: %s", title, fault)
		}
	}
	choice := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, v := range d.Templating.List[1:] {
		if c := choice.FindStringSubmatch(v.Definition); c == nil || len(e[c[1]][c[2]]) == 0 {
			t.Errorf("variable %s asks for %s", v.Name, v.Definition)
		}
	}
}

func TestMetricsPassPromtoolCheck(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	if output := promtool(t, startWatched(t).Metrics(), "check", "metrics"); output != "" {
		t.Error(output)
	}
}

// A breaker's metrics tell what an operator does, and how near it is to opening.
func TestBreakerMetricsShowCountsLimitsAndForcedStates(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`routes:
  svc: {prefix: /svc, upstream: %q, breaker: {fail_max: 5, failure_ratio: 0.9, min_requests: 4, window: 600}}
  idle: {prefix: /idle, upstream: %q, breaker: {fail_max: 0, failure_ratio: 0.5}}
`, u.URL(), u.URL())})
	expect := func(service string, inARow, limit, ratio, ratioLimit, open, closed float64) {
		t.Helper()
		for series, want := range map[string]float64{
			"cbproxy_consecutive_failures": inARow, "cbproxy_consecutive_failures_limit": limit,
			"cbproxy_failure_ratio": ratio, "cbproxy_failure_ratio_limit": ratioLimit,
		} {
			if got := p.Metric(fmt.Sprintf("%s{service=%q}", series, service)); got != want {
				t.Errorf("%s of %s is %v, want %v", series, service, got, want)
			}
		}
		for state, want := range map[string]float64{"open": open, "closed": closed} {
			if got := p.Metric(fmt.Sprintf("cbproxy_forced{service=%q,state=%q}", service, state)); got != want {
				t.Errorf("%s is forced %s: %v, want %v", service, state, got, want)
			}
		}
	}
	expect("svc", 0, 5, 0, 0.9, 0, 0)
	expect("idle", 0, 0, 0, 0.5, 0, 0)
	p.Get("/svc")
	u.Kill()
	p.Get("/svc")
	p.Get("/svc")
	expect("svc", 2, 5, 0, 0.9, 0, 0) // three calls are fewer than min_requests
	p.Get("/svc")
	expect("svc", 3, 5, 0.75, 0.9, 0, 0)
	harness.ForceState(t, p, "closed")
	expect("svc", 0, 5, 0, 0.9, 0, 1)
	harness.ForceState(t, p, "open")
	expect("svc", 0, 5, 0, 0.9, 1, 0)
	harness.ForceState(t, p, "auto")
	expect("svc", 0, 5, 0, 0.9, 0, 0)
	expect("idle", 0, 0, 0, 0.5, 0, 0)
}
