package learning

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page is the content of docs/learning-benchmark.md. What was measured is between two comments.
type page string

var pageFile = filepath.FromSlash("../../../docs/learning-benchmark.md")

func readPage(t *testing.T) page {
	t.Helper()
	content, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	return page(content)
}

// record replaces what is between the comments of a name.
func (p *page) record(t *testing.T, name, text string) {
	t.Helper()
	from := fmt.Sprintf("<!-- Recorded by go test ./internal/bench/learning -update: %s. -->\n", name)
	place := regexp.MustCompile("(?s)" + regexp.QuoteMeta(from) + ".*?<!-- End of the recording. -->\n")
	if !place.MatchString(string(*p)) {
		t.Fatalf("the page has no place for %s", name)
	}
	*p = page(place.ReplaceAllLiteralString(string(*p), from+"\n"+text+"\n<!-- End of the recording. -->\n"))
}

// writeFile writes the page, or a picture into the folder beside it.
func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil { // #nosec G306 -- documentation
		t.Fatal(err)
	}
}

// table is a table of the page.
type table struct{ lines []string }

func newTable(columns ...string) *table {
	t := &table{}
	t.row(columns...)
	t.row(strings.Split(strings.Repeat("--- ", len(columns)-1)+"---", " ")...)
	return t
}

func (t *table) row(cells ...string) {
	t.lines = append(t.lines, "| "+strings.Join(cells, " | ")+" |\n")
}

func (t *table) String() string { return strings.Join(t.lines, "") }
