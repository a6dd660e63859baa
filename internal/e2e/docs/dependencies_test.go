package docs

import (
	"debug/buildinfo"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"

	"cbproxy/internal/e2e/harness"
)

// allowedLicences are the licences, as SPDX identifiers, under which code may be linked into the binary.
var allowedLicences = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// TestDependencyTableMatchesGoMod checks that the table of dependencies in README.md lists the direct requirements of
// go.mod, and nothing else, each with the licences in its files.
func TestDependencyTableMatchesGoMod(t *testing.T) {
	t.Parallel()
	direct := requirements(t, filepath.Join(harness.Repository, "go.mod"))
	listed := map[string][]string{}
	for _, row := range dependencyRows(t) {
		licences := strings.Split(row.licences, ", ")
		if row.folder != "" { // copied code
			if found := licencesOf(t, filepath.Join(harness.Repository, row.folder)); !slices.Equal(found, licences) {
				t.Errorf("%s: found licences %v, the table lists %v", row.folder, found, licences)
			}
		}
		previous := ""
		for _, name := range row.modules {
			previous = expandModuleName(name, previous, direct)
			if listed[previous] != nil {
				t.Errorf("%s is listed twice", previous)
			}
			listed[previous] = licences
		}
	}
	for module := range listed {
		if !slices.Contains(direct, module) {
			t.Errorf("%s is listed, but go.mod does not require it", module)
		}
	}
	folders := moduleFolders(t, direct)
	for _, module := range direct {
		if listed[module] == nil {
			t.Errorf("go.mod requires %s, which is not listed", module)
		} else if found := licencesOf(t, folders[module]); !slices.Equal(found, listed[module]) {
			t.Errorf("%s: found licences %v, the table lists %v", module, found, listed[module])
		}
	}
}

// TestDependenciesOfOtherModulesAreListed checks that README.md names the requirements of the repository's other modules,
// each followed by its licence.
func TestDependenciesOfOtherModulesAreListed(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(readme(t), "\n## Dependencies\n")
	main := requirements(t, filepath.Join(harness.Repository, "go.mod"))
	for _, file := range []string{"internal/bench/caddy/go.mod", "internal/suites/go.mod", "internal/manifests/go.mod"} {
		for _, module := range requirements(t, filepath.Join(harness.Repository, file)) {
			if slices.Contains(main, module) {
				continue
			}
			if _, text, ok := strings.Cut(section, "`"+module+"`"); !ok {
				t.Errorf("%s requires %s, which is not listed", file, module)
			} else if licence := regexp.MustCompile(`\(([^)]*)\)`).FindStringSubmatch(text); licence == nil || !slices.Contains(allowedLicences, licence[1]) {
				t.Errorf("%s is listed without an allowed licence", module)
			}
		}
	}
}

// TestLinkedModulesHaveAllowedLicences checks the licences of all modules in the binary, including indirect requirements.
func TestLinkedModulesHaveAllowedLicences(t *testing.T) {
	t.Parallel()
	info, err := buildinfo.ReadFile(harness.Binary())
	if err != nil {
		t.Fatal(err)
	}
	var linked []string
	for _, m := range info.Deps {
		linked = append(linked, m.Path)
	}
	folders := moduleFolders(t, linked)
	for _, module := range linked {
		found := licencesOf(t, folders[module])
		if len(found) == 0 {
			t.Errorf("%s has no known licence", module)
		}
		for _, licence := range found {
			if !slices.Contains(allowedLicences, licence) {
				t.Errorf("%s has the licence %s, which is not allowed", module, licence)
			}
		}
	}
	if len(linked) < 20 {
		t.Errorf("only %d modules are linked: %v", len(linked), linked)
	}
}

// dependencyRow is a row of the table of dependencies in README.md.
type dependencyRow struct {
	modules  []string
	folder   string // of copied code, "" for modules
	licences string
}

func dependencyRows(t *testing.T) (rows []dependencyRow) {
	t.Helper()
	_, table, ok := strings.Cut(readme(t), "\n| module | licence | why |\n| --- | --- | --- |\n")
	if !ok {
		t.Fatal("README.md has no table of dependencies")
	}
	quoted, linked := regexp.MustCompile("`([^`]+)`"), regexp.MustCompile(`^\[[^]]+\]\(([^)]+)\)`)
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 {
			break
		}
		row := dependencyRow{licences: cells[1]}
		first := strings.TrimPrefix(cells[0], "| ")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			row.modules = append(row.modules, m[1])
		}
		if m := linked.FindStringSubmatch(first); m != nil {
			row.folder = m[1]
		}
		rows = append(rows, row)
	}
	return rows
}

// expandModuleName replaces a leading … in name by the part of previous that makes it one of modules. It returns name if
// there is no such module.
func expandModuleName(name, previous string, modules []string) string {
	rest, abbreviated := strings.CutPrefix(name, "…")
	for begin := previous; abbreviated && strings.Contains(begin, "/"); {
		if slices.Contains(modules, begin+rest) {
			return begin + rest
		}
		begin = begin[:strings.LastIndexByte(begin, '/')]
	}
	return name
}

func readme(t *testing.T) string {
	t.Helper()
	content := harness.ReadFile(t, filepath.Join(harness.Repository, "README.md"))
	return string(content)
}

// requirements returns the direct requirements of a go.mod file.
func requirements(t *testing.T, file string) (modules []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect {
			modules = append(modules, r.Path)
		}
	}
	return modules
}

// moduleFolders returns the folder of each module's files.
func moduleFolders(t *testing.T, modules []string) map[string]string {
	t.Helper()
	args := append([]string{"list", "-m", "-f", "{{.Path}}\t{{.Dir}}"}, modules...)
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{}
	for line := range strings.Lines(string(out)) {
		module, folder, _ := strings.Cut(strings.TrimSpace(line), "\t")
		folders[module] = folder
	}
	return folders
}

// licencesOf returns the licences in the licence files of a folder, sorted.
func licencesOf(t *testing.T, folder string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range licensecheck.Scan(content).Match {
				found[match.ID] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
