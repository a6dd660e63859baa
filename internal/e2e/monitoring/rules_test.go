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

// monitoring is the folder with what Prometheus and Grafana are to load.
var monitoring = filepath.Join(harness.Repository, "monitoring")

// alertingRule is a rule that alerts, or one that records.
type alertingRule struct {
	Alert, Record, Expr string
	Annotations         map[string]string
}

// ruleFiles returns all rules, those of alerts.yaml first.
func ruleFiles(t testing.TB) (all []alertingRule) {
	t.Helper()
	for _, file := range []string{"alerts.yaml", "recording.yaml"} {
		var content struct {
			Groups []struct{ Rules []alertingRule }
		}
		decodeYAML(t, filepath.Join(monitoring, file), &content)
		for _, g := range content.Groups {
			all = append(all, g.Rules...)
		}
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

func decodeYAML(t testing.TB, file string, into any) {
	t.Helper()
	if err := yaml.Unmarshal(harness.ReadFile(t, file), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// Every alert's test lets it fire, and then sees it clear; promtool says whether it does.
func TestEveryAlertIsTestedFiringAndResolved(t *testing.T) {
	t.Parallel()
	cleared := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(monitoring, "tests", "*.yaml"))
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
					cleared[c.Alert] = true
				}
			}
		}
	}
	for _, r := range ruleFiles(t) {
		if r.Alert != "" && !cleared[r.Alert] {
			t.Errorf("no test fires and clears %s", r.Alert)
		}
	}
}

// The operator's object holds the groups of both files, and the API server refuses two of one name.
func TestRuleGroupNamesAreUnique(t *testing.T) {
	t.Parallel()
	file := map[string]string{} // of each group
	for _, name := range []string{"alerts.yaml", "recording.yaml"} {
		var content struct{ Groups []struct{ Name string } }
		decodeYAML(t, filepath.Join(monitoring, name), &content)
		for _, g := range content.Groups {
			if other := file[g.Name]; other != "" || g.Name == "" {
				t.Errorf("group %q is in %s and in %s", g.Name, other, name)
			}
			file[g.Name] = name
		}
	}
}

func TestRulesPassPromtoolChecks(t *testing.T) {
	t.Parallel()
	needPrometheus(t)
	output := promtool(t, "", "check", "rules", "alerts.yaml", "recording.yaml")
	n := 0
	for _, found := range regexp.MustCompile(`SUCCESS: (\d+) rules found`).FindAllStringSubmatch(output, -1) {
		var some int
		_, _ = fmt.Sscan(found[1], &some)
		n += some
	}
	if n != len(ruleFiles(t)) {
		t.Errorf("promtool found %d rules of %d:\n%s", n, len(ruleFiles(t)), output)
	}
	files, err := filepath.Glob(filepath.Join(monitoring, "tests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of tests, %v", len(files), err)
	}
	for i := range files {
		files[i] = filepath.Join("tests", filepath.Base(files[i]))
	}
	promtool(t, "", append([]string{"test", "rules"}, files...)...)
}
