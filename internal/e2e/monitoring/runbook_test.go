package monitoring

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// runbookParagraphs are the paragraphs of each alert's section in the runbook.
var runbookParagraphs = []string{"**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Action.**"}

// TestEveryAlertHasARunbookSection checks that the runbook has a section with all paragraphs for each alert, to which
// runbook_url refers, and no other sections.
func TestEveryAlertHasARunbookSection(t *testing.T) {
	t.Parallel()
	sections := map[string]string{}
	for _, s := range strings.Split(string(harness.ReadFile(t, filepath.Join(monitoringFolder, "RUNBOOK.md"))), "\n## ")[1:] {
		heading, text, _ := strings.Cut(s, "\n")
		sections[heading] = text
	}
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		text, ok := sections[r.Alert]
		if !ok {
			t.Errorf("the runbook has no section %s", r.Alert)
		}
		delete(sections, r.Alert)
		for _, p := range runbookParagraphs {
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

// TestRunbookRequestsSucceed sends the requests to the admin API that the runbook contains.
func TestRunbookRequestsSucceed(t *testing.T) {
	t.Parallel()
	p := startMonitoredProxy(t)
	text := string(harness.ReadFile(t, filepath.Join(monitoringFolder, "RUNBOOK.md")))
	requests := 0
	for _, c := range regexp.MustCompile(`curl -s '?http://127\.0\.0\.1:9901(/[^'\s`+"`"+`]*)`).FindAllStringSubmatch(text, -1) {
		path := strings.NewReplacer("SERVICE", "notifier_service").Replace(c[1])
		if r := p.AdminRequest(http.MethodGet, path, ""); r.Status != http.StatusOK {
			t.Errorf("%s: %+v", path, r)
		}
		requests++
	}
	for _, body := range regexp.MustCompile(`force '(\{"state": "[^']*\})'`).FindAllStringSubmatch(text, -1) {
		if r := p.Force("rag_service", body[1]); r.Status != http.StatusOK {
			t.Errorf("%s: %+v", body[1], r)
		}
		requests++
	}
	if requests < 5 {
		t.Errorf("the runbook contains only %d requests", requests)
	}
}
