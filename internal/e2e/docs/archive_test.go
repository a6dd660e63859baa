package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// archive returns a folder with the content of a release archive, which deploy/release makes from the same list.
func archive(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	copyFile(t, harness.Binary(), filepath.Join(folder, "cbproxy"))
	copyFile(t, filepath.Join(harness.Repository, "deploy/archive/README.md"), filepath.Join(folder, "README.md"))
	for line := range strings.Lines(string(harness.ReadFile(t, filepath.Join(harness.Repository, "deploy/archive/contents.txt")))) {
		if name := strings.TrimSpace(line); !strings.HasPrefix(name, "#") {
			copyTree(t, filepath.Join(harness.Repository, name), filepath.Join(folder, name))
		}
	}
	return folder
}

// TestReleaseArchiveIsComplete checks that the pages of a release link to nothing, and name no file of the repository, that the
// release does not have.
func TestReleaseArchiveIsComplete(t *testing.T) {
	t.Parallel()
	folder := archive(t)
	var all []string
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("the release has only the pages %v", all)
	}
	checkLinks(t, all)

	inRepository := map[string]bool{ // what the pages say that readers find or do in the repository only
		"SECURITY.md: .ci/run":                           true,
		"SECURITY.md: deploy/release":                    true,
		"docs/performance.md: cmd/cbproxy/default.pgo":   true,
		"examples/strategy/README.md: cmd/cbproxy":       true,
		"examples/strategy/README.md: cbproxy/fallbacks": true,
	}
	path := regexp.MustCompile("`([\\w.-]+(?:/[\\w.-]+)+)/?`")
	for _, page := range all {
		name, _ := filepath.Rel(folder, page) // page is below folder
		for _, m := range path.FindAllStringSubmatch(string(harness.ReadFile(t, page)), -1) {
			_, missing := os.Stat(filepath.Join(folder, m[1]))
			if _, err := os.Stat(filepath.Join(harness.Repository, m[1])); err == nil && missing != nil && !inRepository[name+": "+m[1]] {
				t.Errorf("%s names %s, which the release does not have", name, m[1])
			}
		}
	}
	for file, line := range map[string]string{
		"config.example.yaml":    "# yaml-language-server: $schema=./routes/config.schema.json\n",
		"deploy/cbproxy.service": "#   install -m 0644 deploy/cbproxy.service /etc/systemd/system/\n",
		"deploy/cbproxy.socket":  "#   install -m 0644 deploy/cbproxy.socket /etc/systemd/system/\n",
	} {
		if !strings.Contains(string(harness.ReadFile(t, filepath.Join(folder, file))), line) {
			t.Errorf("%s lacks the line %q, whose path this test checks", file, line)
		}
	}
	for _, file := range []string{"routes/config.schema.json", "deploy/cbproxy.service", "deploy/cbproxy.socket"} {
		if _, err := os.Stat(filepath.Join(folder, file)); err != nil {
			t.Error(err)
		}
	}
}

// TestReleaseCommandsWork runs the commands of a release's README where it was unpacked.
func TestReleaseCommandsWork(t *testing.T) {
	t.Parallel()
	folder := archive(t)
	p, err := parseDocument(harness.ReadFile(t, filepath.Join(folder, "README.md")))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.blocks) == 0 || !strings.HasPrefix(p.blocks[0].text, "./cbproxy ") {
		t.Fatalf("the first command does not run the binary: %+v", p.blocks)
	}
	s := startShell(t, folder)
	for _, b := range p.blocks {
		runBlock(t, s, b)
	}
}
