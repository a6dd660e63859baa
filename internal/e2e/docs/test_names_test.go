package docs

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestPagesNameRealTests checks that each test named in a Markdown file of the repository exists.
func TestPagesNameRealTests(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	named := map[string][]string{} // tests by page
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	name := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	err := filepath.WalkDir(harness.Repository, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
		case strings.HasSuffix(path, "_test.go"):
			for _, m := range declared.FindAllStringSubmatch(string(harness.ReadFile(t, path)), -1) {
				tests[m[1]] = true
			}
		case strings.HasSuffix(path, ".md"):
			page := strings.TrimPrefix(path, harness.Repository+"/")
			named[page] = name.FindAllString(string(harness.ReadFile(t, path)), -1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for page, names := range named {
		for _, test := range names {
			if !tests[test] {
				t.Errorf("%s names %s, which does not exist", page, test)
			}
		}
	}
	if n := len(named["SECURITY.md"]); n < 40 {
		t.Errorf("SECURITY.md names only %d tests", n)
	}
}
