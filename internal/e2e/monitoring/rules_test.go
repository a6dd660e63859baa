package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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

// dashboardPanel is what the tests look at of a panel.
type dashboardPanel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr, RefID string }
}

type dashboard struct {
	Panels      []dashboardPanel
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct{ Name, Definition string }
	}
}

func readDashboard(t testing.TB) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal(harness.ReadFile(t, filepath.Join(monitoring, "grafana-dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries returns every query of the dashboard, by the panel's title and the target's letter.
func (d dashboard) queries() map[string]string {
	all := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[fmt.Sprintf("%s, %s", p.Title, target.RefID)] = target.Expr
		}
	}
	for i, a := range d.Annotations.List {
		all[fmt.Sprintf("annotation %d", i)] = a.Expr
	}
	return all
}

func TestDashboardMatchesGeneratorOutput(t *testing.T) {
	t.Parallel()
	printed, err := exec.Command("go", "run", "cbproxy/monitoring/dashboard").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(printed, harness.ReadFile(t, filepath.Join(monitoring, "grafana-dashboard.json"))) {
		t.Error("run: go run ./monitoring/dashboard >monitoring/grafana-dashboard.json")
	}
}

func TestDashboardPanelsDoNotOverlap(t *testing.T) {
	t.Parallel()
	ids, taken := map[int]bool{}, map[[2]int]string{}
	d := readDashboard(t)
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%+v", p)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s is outside: %+v", p.Title, g)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				place := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[place]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[place] = p.Title
			}
		}
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "instance", "service"}) {
		t.Errorf("variables %q", variables)
	}
}

// paragraphs are the paragraphs of each alert's section in the runbook.
var paragraphs = []string{"**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Action.**"}

func TestEveryAlertHasARunbookSection(t *testing.T) {
	t.Parallel()
	sections := map[string]string{}
	for _, s := range strings.Split(string(harness.ReadFile(t, filepath.Join(monitoring, "RUNBOOK.md"))), "\n## ")[1:] {
		heading, text, _ := strings.Cut(s, "\n")
		sections[heading] = text
	}
	for _, r := range ruleFiles(t) {
		if r.Alert == "" {
			continue
		}
		text, ok := sections[r.Alert]
		if !ok {
			t.Errorf("the runbook has no section %s", r.Alert)
		}
		delete(sections, r.Alert)
		for _, p := range paragraphs {
			if !strings.Contains(text, p) {
				t.Errorf("%s: the runbook has no %s", r.Alert, p)
			}
		}
		if want := "monitoring/RUNBOOK.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
	for heading := range sections {
		t.Errorf("the runbook has a section %s, which is not an alert", heading)
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
