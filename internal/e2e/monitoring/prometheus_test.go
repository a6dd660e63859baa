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
)

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

// needPrometheus skips the test where Prometheus' programs are missing, which CI installs.
func needPrometheus(t testing.TB) {
	t.Helper()
	for _, program := range []string{"promtool", "prometheus"} {
		if _, err := exec.LookPath(program); err != nil {
			harness.SkipUnlessCI(t, "needs Prometheus", err)
		}
	}
}

// promtool runs it in the folder, and fails the test if it finds fault.
func promtool(t testing.TB, input string, arguments ...string) string {
	t.Helper()
	c := exec.Command("promtool", arguments...)
	c.Dir, c.Stdin = monitoring, strings.NewReader(input)
	output, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %q: %v\n%s", arguments, err, output)
	}
	return string(output)
}
