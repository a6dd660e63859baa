package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// dashboardPanel is a panel of a Grafana dashboard, with the keys that the tests need.
type dashboardPanel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr, RefID string }
}

// dashboard is a Grafana dashboard, with the keys that the tests need.
type dashboard struct {
	Panels      []dashboardPanel
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct{ Name, Definition string }
	}
}

func readDashboard(t testing.TB) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal(harness.ReadFile(t, filepath.Join(monitoringFolder, "grafana-dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries returns every query of the dashboard, by the panel's title and the target's letter, or by the number of the
// annotation.
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

// TestDashboardMatchesGeneratorOutput checks that the dashboard file is the output of monitoring/dashboard.
func TestDashboardMatchesGeneratorOutput(t *testing.T) {
	t.Parallel()
	printed, err := exec.Command("go", "run", "cbproxy/monitoring/dashboard").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(printed, harness.ReadFile(t, filepath.Join(monitoringFolder, "grafana-dashboard.json"))) {
		t.Error("the file is not up to date, run: go run ./monitoring/dashboard >monitoring/grafana-dashboard.json")
	}
}

// TestDashboardPanelsDoNotOverlap checks the IDs, titles and positions of the panels, and the dashboard's variables.
func TestDashboardPanelsDoNotOverlap(t *testing.T) {
	t.Parallel()
	ids, taken := map[int]bool{}, map[[2]int]string{}
	d := readDashboard(t)
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("invalid panel %+v", p)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("the position of %s is invalid: %+v", p.Title, g)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				cell := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[cell]; other != "" {
					t.Fatalf("%s overlaps %s", p.Title, other)
				}
				taken[cell] = p.Title
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
