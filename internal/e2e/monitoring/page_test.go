package monitoring

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func choosingPage(t testing.TB) string {
	t.Helper()
	return string(harness.ReadFile(t, filepath.Join(harness.Repository, "docs/choosing.md")))
}

// pageQueries returns the queries in docs/choosing.md, one a line, for a service of monitoredProxy.
func pageQueries(t testing.TB) (queries []string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(choosingPage(t), -1) {
		for query := range strings.Lines(strings.ReplaceAll(block[1], "SERVICE", "rag_service")) {
			queries = append(queries, strings.TrimSpace(query))
		}
	}
	if len(queries) < 10 {
		t.Errorf("docs/choosing.md has only the queries %q", queries)
	}
	return queries
}

// TestPageNamesPanelsOfDashboard checks that the panels that docs/choosing.md names are on the dashboard.
func TestPageNamesPanelsOfDashboard(t *testing.T) {
	t.Parallel()
	var titles []string
	for _, p := range readDashboard(t).Panels {
		titles = append(titles, p.Title)
	}
	named := regexp.MustCompile(`“([^”]+)”`).FindAllStringSubmatch(choosingPage(t), -1)
	if len(named) < 5 {
		t.Errorf("docs/choosing.md names only the panels %q", named)
	}
	for _, m := range named {
		if title := strings.ReplaceAll(m[1], "\n", " "); !slices.Contains(titles, title) {
			t.Errorf("docs/choosing.md names the panel %s, which does not exist", title)
		}
	}
}
