package choosing

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// page is the content of docs/choosing.md. A comment before a block of YAML names the configuration that it shows, and a recording is
// between two comments.
type page string

var pageFile = filepath.Join(harness.Repository, "docs/choosing.md")

func readPage(t *testing.T) page {
	t.Helper()
	return page(harness.ReadFile(t, pageFile))
}

// config returns the keys of a route that the page shows under a name.
func (p page) config(t *testing.T, name string) string {
	t.Helper()
	m := regexp.MustCompile("(?s)<!-- run: " + regexp.QuoteMeta(name) + " -->\n```yaml\n(.*?)```\n").FindStringSubmatch(string(p))
	if m == nil {
		t.Fatalf("the page has no configuration %s", name)
	}
	return m[1]
}

// place returns the comments around the recording of a scenario, and the recording.
func (p page) place(t *testing.T, scenario string) (begin, recording, end string) {
	t.Helper()
	begin, end = "<!-- Recorded by go test ./internal/e2e/choosing -update: "+scenario+". -->\n", "\n<!-- End of the recording. -->\n"
	_, after, found := strings.Cut(string(p), begin)
	recording, _, ended := strings.Cut(after, end)
	if !found || !ended {
		t.Fatalf("the page has no place for the recording of %s", scenario)
	}
	return begin, strings.TrimPrefix(recording, "\n"), end
}

// update writes recordings, by scenario, into the page.
func (p page) update(t *testing.T, recordings map[string]string) {
	t.Helper()
	for name, recording := range recordings {
		begin, previous, end := p.place(t, name)
		if previous != "" {
			previous = "\n" + previous
		}
		p = page(strings.Replace(string(p), begin+previous+end, begin+"\n"+recording+end, 1))
	}
	if err := os.WriteFile(pageFile, []byte(p), 0o644); err != nil {
		t.Fatal(err)
	}
}
