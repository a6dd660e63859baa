package docs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// pages returns the Markdown files that contain instructions for readers.
func pages(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join(harness.Repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

// TestPageCommandsWork runs the commands of each page in order, in a fresh copy of the repository, and
// compares their output with the page.
func TestPageCommandsWork(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "curl", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			testenv.SkipUnlessCI(t, tool, err)
		}
	}
	for _, name := range pages(t) {
		p, err := parseDocument(harness.ReadFile(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(p.blocks) == 0 {
			continue // no commands
		}
		t.Run(strings.TrimPrefix(name, harness.Repository+"/"), func(t *testing.T) {
			t.Parallel()
			for _, command := range p.needs {
				if out, err := exec.CommandContext(t.Context(), "bash", "-c", command).CombinedOutput(); err != nil {
					testenv.SkipUnlessCI(t, command, fmt.Errorf("%w: %s", err, out))
				}
			}
			s := startShell(t, copyOfRepository(t))
			for _, b := range p.blocks {
				runBlock(t, s, b)
			}
		})
	}
}

// runBlock runs a block and compares its output with the page, or writes its file.
func runBlock(t *testing.T, s *shell, b block) {
	t.Helper()
	switch {
	case b.skipReason != "":
		t.Logf("line %d is not run: %s", b.line, b.skipReason)
	case b.file != "":
		if err := os.WriteFile(filepath.Join(s.folder, b.file), []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
	case b.readyURL != "":
		s.start(b.text, b.readyURL)
	case b.console:
		if b.interruptURL != "" {
			s.interrupt(b.interruptURL)
		}
		for _, c := range parseConsole(b.text) {
			if got := s.runOne(c.text); !matchesOutput(c.output, got) {
				t.Fatalf("line %d: $ %sdocumented output:\n%s\nactual output:\n%s", b.line, c.text, c.output, got)
			}
		}
	default:
		if b.interruptURL != "" {
			s.interrupt(b.interruptURL)
		}
		if output, ok := s.run(b.text); !ok {
			t.Fatalf("line %d fails: %s\noutput:\n%s", b.line, b.text, output)
		}
	}
}

// copyOfRepository returns the folder of a copy of the repository without its history.
func copyOfRepository(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	copyTree(t, harness.Repository, folder)
	return folder
}

// copyTree copies a file, or a folder without a repository's history and a proxy's state.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "cbproxy-data"):
			return fs.SkipDir
		case d.Type().IsRegular():
			copyFile(t, path, filepath.Join(to, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyFile copies a file with its permissions, and creates the folder.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, harness.ReadFile(t, from), info.Mode().Perm())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPageLinksResolve checks links within a page and to other files of the repository.
func TestPageLinksResolve(t *testing.T) {
	all := pages(t)
	for _, pattern := range []string{"monitoring/*.md", "internal/*/*.md"} {
		more, err := filepath.Glob(filepath.Join(harness.Repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	checkLinks(t, all)
}

// checkLinks checks that the links of Markdown files lead to files that exist, and to headings in them.
func checkLinks(t *testing.T, all []string) {
	t.Helper()
	names := map[string]map[string]bool{}
	read := func(name string) *document {
		p, err := parseDocument(harness.ReadFile(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		names[name] = p.anchors
		return p
	}
	for _, name := range all {
		for _, link := range read(name).links {
			path, fragment, _ := strings.Cut(link, "#")
			if strings.Contains(path, "://") {
				continue
			}
			to := name
			if path != "" {
				to = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s: %v", name, link, err)
				continue
			}
			if fragment == "" || !strings.HasSuffix(to, ".md") {
				continue
			}
			if read(to); !names[to][fragment] {
				t.Errorf("%s: %s: no such heading", name, link)
			}
		}
	}
}
