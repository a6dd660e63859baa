package monitoring

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// What the runbook lets an operator look at is there.
func TestRunbookRequestsSucceed(t *testing.T) {
	t.Parallel()
	w := startWatched(t)
	text := string(harness.ReadFile(t, filepath.Join(monitoring, "RUNBOOK.md")))
	asked := 0
	for _, c := range regexp.MustCompile(`curl -s '?http://127\.0\.0\.1:9901(/[^'\s`+"`"+`]*)`).FindAllStringSubmatch(text, -1) {
		path := strings.NewReplacer("SERVICE", "notifier_service").Replace(c[1])
		if r := w.AdminRequest(http.MethodGet, path, ""); r.Status != http.StatusOK {
			t.Errorf("%s: %+v", path, r)
		}
		asked++
	}
	for _, body := range regexp.MustCompile(`force '(\{"state": "[^']*\})'`).FindAllStringSubmatch(text, -1) {
		if r := w.Force("rag_service", body[1]); r.Status != http.StatusOK {
			t.Errorf("%s: %+v", body[1], r)
		}
		asked++
	}
	if asked < 5 {
		t.Errorf("only %d calls are in the runbook", asked)
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

// prometheusServer is a Prometheus that scrapes a proxy, with the rules loaded.
type prometheusServer struct {
	t   testing.TB
	url string
}

func startPrometheus(t testing.TB, p *harness.Proxy) prometheusServer {
	t.Helper()
	needPrometheus(t)
	folder, address := t.TempDir(), harness.FreeAddress(t)
	rules, err := filepath.Abs(monitoring)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`global: {scrape_interval: 500ms, evaluation_interval: 500ms}
rule_files: [%q, %q]
scrape_configs: [{job_name: cbproxy, static_configs: [{targets: [%q]}]}]
`, filepath.Join(rules, "alerts.yaml"), filepath.Join(rules, "recording.yaml"), strings.TrimPrefix(p.AdminURL, "http://"))
	file := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(harness.LogBuffer)
	c := exec.Command("prometheus", "--config.file", file, "--storage.tsdb.path", filepath.Join(folder, "data"), "--web.listen-address", address)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log)
		}
	})
	s := prometheusServer{t, "http://" + address}
	harness.Eventually(t, "Prometheus is ready", func() bool {
		res, err := http.Get(s.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return s
}

// ask reads what the API answers; an error of Prometheus' fails the test.
func (s prometheusServer) ask(path string, values url.Values, into any) {
	s.t.Helper()
	res, err := http.Get(s.url + path + "?" + values.Encode())
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	r := harness.ReadResponse(s.t, res, err)
	if err := json.Unmarshal([]byte(r.Body), &answer); err != nil || answer.Status != "success" {
		s.t.Fatalf("%s %v: %+v, %v", path, values, r, err)
	}
}

// filled puts in what Grafana does for its variables.
var filled = strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$service", ".*")

// values are the numbers that a query yields now, by service.
func (s prometheusServer) values(query string) map[string]float64 {
	s.t.Helper()
	var answer struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	s.ask("/api/v1/query", url.Values{"query": {filled.Replace(query)}}, &answer)
	numbers := map[string]float64{}
	for _, r := range answer.Result {
		text, _ := r.Value[1].(string)
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		if !math.IsNaN(n) {
			numbers[r.Metric["service"]] = n
		}
	}
	return numbers
}

// quiet are the parts of the dashboard that show nothing of a proxy as the test has it, or
// nothing for the first minutes.
var quiet = []string{
	"Redis commands, B", "Redis commands, C", "Rejected by limits, and in shadow mode, B", "Waiting, B", "Probing and takeovers, A", "Probing and takeovers, B",
	"Probing and takeovers, C", "annotation 0", "Error budget burn rate, B", "Error budget burn rate, C",
}

func TestPrometheusEvaluatesDashboardAndRules(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	w := startWatched(t)
	s := startPrometheus(t, w.Proxy)
	queries := readDashboard(t).queries()
	for _, title := range quiet {
		if queries[title] == "" {
			t.Errorf("there is no query %s", title)
		}
	}
	state, waiting := queries["State, A"], queries["Waiting, A"]
	harness.Eventually(t, "Prometheus has seen the proxy", func() bool { return len(s.values("enhanced_circuit_breaker_state")) == 2 })
	if closed, ok := s.values(state)["rag_service"]; !ok || closed != 0 {
		t.Errorf("the breaker is shown as %v, %v", closed, ok)
	}
	w.Get("/rag/query")
	w.killUpstream()
	for title, query := range queries {
		if slices.Contains(quiet, title) {
			s.values(query) // there may be none, but it is a query
			continue
		}
		harness.Eventually(t, title+" has data", func() bool {
			w.Get("/rag/query")
			return len(s.values(query)) > 0
		})
	}
	harness.Eventually(t, "the breaker is shown as open", func() bool { return s.values(state)["rag_service"] == 1 })
	if n := s.values(waiting)["notifier_service"]; n != 2 {
		t.Errorf("%v requests are shown as waiting", n)
	}
	harness.Eventually(t, "the alert is on its way", func() bool { return s.alerts("CbproxyBreakerOpen", "rag_service") })
	if s.alerts("CbproxyBreakerOpen", "notifier_service") || !s.alerts("CbproxyBreakerForced", "notifier_service") {
		t.Error("what an operator holds open is taken for a dead upstream, or not seen")
	}
	s.rulesAreHealthy()
}

// alerts tells whether an alert is pending or firing for the service.
func (s prometheusServer) alerts(alert, service string) bool {
	s.t.Helper()
	var answer struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	s.ask("/api/v1/alerts", nil, &answer)
	for _, a := range answer.Alerts {
		if a.Labels["alertname"] == alert && a.Labels["service"] == service && (a.State == "pending" || a.State == "firing") {
			return true
		}
	}
	return false
}

// rulesAreHealthy fails the test if Prometheus could not evaluate a rule, or has not loaded one.
func (s prometheusServer) rulesAreHealthy() {
	s.t.Helper()
	var answer struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	s.ask("/api/v1/rules", nil, &answer)
	n := 0
	for _, g := range answer.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health == "err" || r.LastError != "" {
				s.t.Errorf("%+v", r)
			}
		}
	}
	if want := len(ruleFiles(s.t)); n != want {
		s.t.Errorf("%d rules are loaded, want %d", n, want)
	}
}
