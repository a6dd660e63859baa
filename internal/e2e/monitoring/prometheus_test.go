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
	"slices"
	"strconv"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// prometheusServer is a Prometheus that scrapes a proxy, with the rules loaded.
type prometheusServer struct {
	t   testing.TB
	url string
}

func startPrometheus(t testing.TB, p *harness.Proxy) prometheusServer {
	t.Helper()
	requirePrometheus(t)
	folder, address := t.TempDir(), harness.FreeAddress(t)
	rules, err := filepath.Abs(monitoringFolder)
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

// get sends a request to the Prometheus API and decodes its data. It fails the test if Prometheus reports an error.
func (s prometheusServer) get(path string, values url.Values, into any) {
	s.t.Helper()
	res, err := http.Get(s.url + path + "?" + values.Encode())
	response := struct {
		Status, Error string
		Data          any
	}{Data: into}
	r := harness.ReadResponse(s.t, res, err)
	if err := json.Unmarshal([]byte(r.Body), &response); err != nil || response.Status != "success" {
		s.t.Fatalf("%s %v: %+v, %v", path, values, r, err)
	}
}

// variableReplacer replaces the variables of Grafana.
var variableReplacer = strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$service", ".*")

// values returns the current result of a query by service, without NaN.
func (s prometheusServer) values(query string) map[string]float64 {
	s.t.Helper()
	var response struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	s.get("/api/v1/query", url.Values{"query": {variableReplacer.Replace(query)}}, &response)
	values := map[string]float64{}
	for _, r := range response.Result {
		text, _ := r.Value[1].(string)
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		if !math.IsNaN(n) {
			values[r.Metric["service"]] = n
		}
	}
	return values
}

// maybeEmpty are the queries of the dashboard that may have no result for the proxy of the test, or none in the first
// minutes.
var maybeEmpty = []string{
	"Redis commands, B", "Redis commands, C", "Rejected by limits, and in shadow mode, B", "Waiting, B", "Probing and takeovers, A", "Probing and takeovers, B",
	"Probing and takeovers, C", "annotation 0", "Error budget burn rate, B", "Error budget burn rate, C", "Error budget burn rate, F",
	"Prediction error, A", "Prediction error, B",
}

// forecastQueries are the queries of the dashboard that have a result once there are calls of a minute.
var forecastQueries = []string{"Success ratio, predicted, A", "Trend of the success ratio, A", "Response time, p95, predicted, A", "Time to open, A"}

// TestPrometheusEvaluatesDashboardAndRules checks that the dashboard's queries have results in Prometheus, before and
// during an outage, and that the alerts for an open and for a forced breaker differ.
func TestPrometheusEvaluatesDashboardAndRules(t *testing.T) {
	t.Parallel()
	requirePrometheus(t)
	p := startMonitoredProxy(t)
	s := startPrometheus(t, p.Proxy)
	queries := readDashboard(t).queries()
	for _, title := range slices.Concat(maybeEmpty, forecastQueries) {
		if queries[title] == "" {
			t.Errorf("there is no query %s", title)
		}
	}
	state, waiting := queries["State, A"], queries["Waiting, A"]
	harness.Eventually(t, "Prometheus has scraped the proxy", func() bool { return len(s.values("enhanced_circuit_breaker_state")) == 3 })
	if closed, ok := s.values(state)["rag_service"]; !ok || closed != 0 {
		t.Errorf("the dashboard shows the breaker's state as %v, %v", closed, ok)
	}
	p.Get("/rag/query")
	p.killUpstream()
	for title, query := range queries {
		if slices.Contains(maybeEmpty, title) {
			s.values(query) // must be valid
			continue
		}
		if slices.Contains(forecastQueries, title) {
			continue
		}
		harness.Eventually(t, title+" has a result", func() bool {
			p.Get("/rag/query")
			p.Get("/vms/cameras")
			return len(s.values(query)) > 0
		})
	}
	for _, title := range forecastQueries {
		harness.EventuallyWithin(t, 3*harness.EventTimeout, title+" has a result", func() bool {
			p.Get("/vms/cameras")
			return len(s.values(queries[title])) > 0
		})
	}
	for _, query := range pageQueries(t) {
		s.values(query) // must be valid
	}
	harness.Eventually(t, "the dashboard shows the breaker as open", func() bool { return s.values(state)["rag_service"] == 1 })
	if n := s.values(waiting)["notifier_service"]; n != 2 {
		t.Errorf("the dashboard shows %v queued requests, want 2", n)
	}
	harness.Eventually(t, "the alert is pending", func() bool { return s.alerts("CbproxyBreakerOpen", "rag_service") })
	if s.alerts("CbproxyBreakerOpen", "notifier_service") || !s.alerts("CbproxyBreakerForced", "notifier_service") {
		t.Error("the breaker that is forced open does not have exactly the alert for forced breakers")
	}
	s.checkRulesHealthy()
}

// alerts reports whether an alert is pending or firing for the service.
func (s prometheusServer) alerts(alert, service string) bool {
	s.t.Helper()
	var response struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	s.get("/api/v1/alerts", nil, &response)
	for _, a := range response.Alerts {
		if a.Labels["alertname"] == alert && a.Labels["service"] == service && (a.State == "pending" || a.State == "firing") {
			return true
		}
	}
	return false
}

// checkRulesHealthy checks that Prometheus has loaded every rule, and has evaluated it without an error.
func (s prometheusServer) checkRulesHealthy() {
	s.t.Helper()
	var response struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	s.get("/api/v1/rules", nil, &response)
	n := 0
	for _, g := range response.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health == "err" || r.LastError != "" {
				s.t.Errorf("invalid rule %+v", r)
			}
		}
	}
	if want := len(readRules(s.t)); n != want {
		s.t.Errorf("Prometheus has loaded %d rules, want %d", n, want)
	}
}

// requirePrometheus skips the test if the programs of Prometheus are not installed, as they are in CI.
func requirePrometheus(t testing.TB) {
	t.Helper()
	for _, program := range []string{"promtool", "prometheus"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.SkipUnlessCI(t, "needs Prometheus", err)
		}
	}
}

// runPromtool runs promtool in monitoringFolder and returns its output. It fails the test if promtool fails.
func runPromtool(t testing.TB, input string, arguments ...string) string {
	t.Helper()
	c := exec.Command("promtool", arguments...)
	c.Dir, c.Stdin = monitoringFolder, strings.NewReader(input)
	output, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %q: %v\n%s", arguments, err, output)
	}
	return string(output)
}
