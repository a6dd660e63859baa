package monitoring

import (
	"fmt"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/internal/e2e/harness"
)

// monitoringFolder contains the files for Prometheus and Grafana.
var monitoringFolder = filepath.Join(harness.Repository, "monitoring")

// rule is an alerting rule or a recording rule.
type rule struct {
	Alert, Record, Expr string
	Annotations         map[string]string
}

// readRules returns all rules, those of alerts.yaml first.
func readRules(t testing.TB) (all []rule) {
	t.Helper()
	for _, file := range []string{"alerts.yaml", "recording.yaml"} {
		var content struct {
			Groups []struct{ Rules []rule }
		}
		decodeYAML(t, filepath.Join(monitoringFolder, file), &content)
		for _, g := range content.Groups {
			all = append(all, g.Rules...)
		}
	}
	if len(all) == 0 {
		t.Fatal("the files contain no rules")
	}
	return all
}

func decodeYAML(t testing.TB, file string, into any) {
	t.Helper()
	if err := yaml.Unmarshal(harness.ReadFile(t, file), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestEveryAlertIsTestedFiringAndResolved checks that the rule tests expect each alert to fire, and later to be resolved.
// TestRulesPassPromtoolChecks runs them.
func TestEveryAlertIsTestedFiringAndResolved(t *testing.T) {
	t.Parallel()
	resolved := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(monitoringFolder, "tests", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var content struct {
			Tests []struct {
				Checks []struct {
					Time   time.Duration `yaml:"eval_time"`
					Alert  string        `yaml:"alertname"`
					Alerts []any         `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		decodeYAML(t, file, &content)
		for _, test := range content.Tests {
			fired := map[string]time.Duration{}
			for _, c := range test.Checks {
				at, ok := fired[c.Alert]
				switch {
				case len(c.Alerts) > 0:
					fired[c.Alert] = c.Time
				case ok && c.Time > at:
					resolved[c.Alert] = true
				}
			}
		}
	}
	for _, r := range readRules(t) {
		if r.Alert != "" && !resolved[r.Alert] {
			t.Errorf("no test expects %s to fire and to be resolved", r.Alert)
		}
	}
}

// TestRuleGroupNamesAreUnique checks the names over both files, because one PrometheusRule contains the groups of both,
// and the API server rejects duplicate names.
func TestRuleGroupNamesAreUnique(t *testing.T) {
	t.Parallel()
	files := map[string]string{} // by group
	for _, name := range []string{"alerts.yaml", "recording.yaml"} {
		var content struct{ Groups []struct{ Name string } }
		decodeYAML(t, filepath.Join(monitoringFolder, name), &content)
		for _, g := range content.Groups {
			if other := files[g.Name]; other != "" || g.Name == "" {
				t.Errorf("group %q is in %s and in %s", g.Name, other, name)
			}
			files[g.Name] = name
		}
	}
}

// TestRulesPassPromtoolChecks runs promtool check rules and promtool test rules.
func TestRulesPassPromtoolChecks(t *testing.T) {
	t.Parallel()
	requirePrometheus(t)
	output := runPromtool(t, "", "check", "rules", "alerts.yaml", "recording.yaml")
	n := 0
	for _, found := range regexp.MustCompile(`SUCCESS: (\d+) rules found`).FindAllStringSubmatch(output, -1) {
		var some int
		_, _ = fmt.Sscan(found[1], &some)
		n += some
	}
	if n != len(readRules(t)) {
		t.Errorf("promtool found %d of %d rules:\n%s", n, len(readRules(t)), output)
	}
	files, err := filepath.Glob(filepath.Join(monitoringFolder, "tests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d files of rule tests: %v", len(files), err)
	}
	for i := range files {
		files[i] = filepath.Join("tests", filepath.Base(files[i]))
	}
	runPromtool(t, "", append([]string{"test", "rules"}, files...)...)
}
