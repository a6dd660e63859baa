package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// allowedImports lists, for each package, the packages of this module that it may import.
// Only cmd/cbproxy imports internal/app, which may import every other package.
var allowedImports = map[string][]string{
	"cmd/cbproxy": {"routes", "internal/admin", "internal/app", "internal/breaker", "internal/configdiff", "internal/demo", "internal/events", "internal/fault", "internal/listen", "internal/override", "internal/sanitize", "internal/service", "internal/simulate", "internal/statusview", "internal/tune"},
	"internal/app": {"routes", "proxy", "internal/service", "fallbacks", "fallbacks/queue", "fallbacks/standard", "internal/admin", "internal/breaker", "internal/breaker/algorithm", "internal/breaker/keyed", "internal/configdiff", "internal/events", "internal/fault", "internal/fleet", "internal/forecast", "internal/httpserver", "internal/listen",
		"internal/accesslog", "internal/metrics", "internal/outcomes", "internal/override", "internal/sanitize", "internal/queue", "internal/queue/disk", "internal/store", "internal/telemetry", "internal/files", "internal/tlsfiles", "internal/trends"},
	"routes":                        {"internal/expression", "internal/files", "internal/listen", "internal/sanitize", "internal/servicelink", "internal/strictyaml", "internal/textform", "internal/tlsfiles"},
	"proxy":                         {"routes", "fallbacks", "internal/balance", "internal/breaker", "internal/events", "internal/expression", "internal/fault", "internal/grpc", "internal/http1", "internal/httpserver", "internal/lifetime", "internal/message", "internal/problem", "internal/requestlog", "internal/response", "internal/sanitize", "internal/service", "internal/sse", "internal/stream", "internal/tunnel", "internal/upload", "internal/upstream"},
	"fallbacks":                     {"routes", "internal/events"},
	"fallbacks/cache":               {"fallbacks", "routes", "internal/grpc", "internal/upstream"},
	"fallbacks/endpoint":            {"fallbacks", "fallbacks/internal/httpclient", "routes", "internal/upstream"},
	"fallbacks/fallbacktest":        {"fallbacks", "routes", "internal/upstream", "internal/tlsfiles"},
	"fallbacks/internal/httpclient": {"fallbacks", "routes", "internal/upstream"},
	"fallbacks/queue":               {"fallbacks", "routes", "internal/events", "internal/queue"},
	"fallbacks/standard":            {"fallbacks", "fallbacks/cache", "fallbacks/queue", "fallbacks/endpoint", "fallbacks/static", "fallbacks/template", "fallbacks/upstream"},
	"fallbacks/static":              {"fallbacks"},
	"fallbacks/template":            {"fallbacks", "routes", "internal/sanitize"},
	"fallbacks/upstream":            {"fallbacks", "fallbacks/internal/httpclient", "routes", "internal/breaker", "internal/events", "internal/grpc", "internal/refcount", "internal/upstream"},
	"internal/breaker":              {"internal/breaker/adaptive", "internal/breaker/algorithm", "internal/events"},
	"internal/breaker/adaptive":     nil,
	"internal/breaker/keyed":        {"internal/breaker", "internal/events"},
	"internal/breaker/algorithm":    {"internal/events", "internal/expression"},
	"internal/events":               nil,
	"internal/expression":           {"internal/strictyaml"},
	"internal/fault":                {"internal/events"},
	"internal/forecast":             {"internal/breaker", "internal/events", "internal/trends"},
	"internal/grpc":                 nil,
	"internal/healthcheck":          {"internal/events", "internal/grpc", "internal/message", "internal/upstream"},
	"internal/http1":                nil,
	"internal/lifetime":             {"internal/http1", "internal/upstream"},
	"internal/limit":                nil,
	"internal/refcount":             nil,
	"internal/requestlog":           {"internal/events"},
	"internal/response":             nil,
	"internal/balance":              {"internal/events", "internal/refcount", "internal/upstream"},
	"internal/service":              {"routes", "fallbacks", "internal/balance", "internal/breaker", "internal/breaker/keyed", "internal/breaker/adaptive", "internal/breaker/algorithm", "internal/events", "internal/expression", "internal/fault", "internal/grpc", "internal/healthcheck", "internal/limit", "internal/message", "internal/prefixtable", "internal/sanitize", "internal/tlsfiles", "internal/upload", "internal/upstream"},
	"internal/tunnel":               nil,
	"internal/upload":               {"internal/http1", "internal/httpserver", "internal/message", "internal/upstream"},
	"internal/message":              {"internal/problem"},
	"internal/httpserver":           {"internal/http1", "internal/listen", "internal/problem"},
	"internal/listen":               nil,
	"internal/prefixtable":          nil,
	"internal/servicelink":          nil,
	"internal/textform":             nil,
	"internal/upstream":             {"internal/events", "internal/http1", "internal/refcount"},
	"internal/files":                nil,
	"internal/strictyaml":           {"internal/sanitize"},
	"internal/tlsfiles":             {"internal/files"},
	"internal/sanitize":             nil,
	"internal/problem":              {"internal/events"},
	"internal/sse":                  nil,
	"internal/stream":               {"internal/events"},
	"internal/accesslog":            {"internal/events", "internal/sanitize"},
	"internal/boltfile":             nil,
	"internal/store":                {"internal/boltfile", "internal/events"},
	"internal/queue":                {"internal/events", "internal/queue/disk", "internal/queue/mirror", "internal/store", "internal/sanitize"},
	"internal/queue/mirror":         {"internal/queue/disk", "internal/store"},
	"internal/queue/disk":           {"internal/boltfile"},
	"internal/fleet":                {"internal/breaker", "internal/events", "internal/store"},
	"internal/configdiff":           {"routes", "internal/sanitize"},
	"internal/statusview":           {"internal/admin", "internal/events", "internal/sanitize"},
	"internal/simulate":             {"internal/breaker", "internal/events", "internal/sanitize"},
	"internal/tune":                 {"internal/breaker", "internal/events", "internal/simulate", "internal/strictyaml"},
	"internal/override":             {"internal/boltfile", "internal/events", "internal/files"},
	"internal/outcomes":             {"internal/boltfile", "internal/events"},
	"internal/admin":                {"internal/breaker", "internal/breaker/keyed", "internal/events", "internal/fault", "internal/outcomes", "internal/override", "internal/problem", "internal/simulate", "internal/trends"},
	"internal/metrics":              {"internal/events"},
	"internal/telemetry":            {"internal/events", "internal/sanitize"},
	"internal/trends":               nil,
	"internal/bench":                {"internal/bench/loadgen", "internal/bench/process", "internal/events", "internal/queue", "internal/queue/disk"},
	"internal/bench/loadgen":        nil,
	"internal/bench/process":        nil,
	"internal/e2e":                  nil,
	"internal/e2e/harness":          nil,
	"internal/certtest":             nil,
	"internal/testenv":              nil,
	"internal/redistest":            {"internal/certtest", "internal/testenv"},
	"monitoring/dashboard":          nil,
	"monitoring/prometheusrule":     nil,
	"internal/demo":                 nil,
	"examples/orchestrator":         nil,
	"examples/caller":               nil,
}

// TestImportRules checks the imports of every package of this module against allowedImports.
// Folders that hold other modules are skipped.
func TestImportRules(t *testing.T) {
	root := harness.Repository
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && isOtherModule(d.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(folder)
		allowed, known := allowedImports[pkg]
		if !known {
			t.Errorf("%s: package %s is missing from allowedImports", path, pkg)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			checkImport(t, path, pkg, spec.Path.Value, allowed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isOtherModule reports whether a folder of this name holds a module of its own, or no packages.
func isOtherModule(folder string) bool {
	return folder == "caddy" || folder == "suites" || folder == "manifests" || folder == "strategy" || strings.HasPrefix(folder, ".") && len(folder) > 2
}

// TestArchitecturePictureMatchesImports checks that every arrow in the package diagram of
// docs/architecture.md is an import and every import between its packages is an arrow. Imports of
// internal/events are left out of the diagram because every package may have them.
func TestArchitecturePictureMatchesImports(t *testing.T) {
	page := string(harness.ReadFile(t, filepath.Join(harness.Repository, "docs/architecture.md")))
	diagram := regexp.MustCompile("(?s)```mermaid\n(.*?)```").FindStringSubmatch(page) // the first of the page
	if diagram == nil {
		t.Fatal("docs/architecture.md has no diagram")
	}
	packages := map[string]string{} // package path by its node's name in the diagram
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+)\["([\w/]+)(?:<br>[^"]*)?"\]$`).FindAllStringSubmatch(diagram[1], -1) {
		packages[m[1]] = m[2]
	}
	var drawn, imported []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+) --> (\w+)$`).FindAllStringSubmatch(diagram[1], -1) {
		drawn = append(drawn, packages[m[1]]+" imports "+packages[m[2]])
	}
	for _, pkg := range packages {
		imports := map[string]bool{}
		files, err := filepath.Glob(filepath.Join(harness.Repository, pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("the diagram has a node for %s, which is not a package: %v", pkg, err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range file.Imports {
				if local, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "cbproxy/"); ok && !strings.HasSuffix(name, "_test.go") && local != "internal/events" {
					imports[local] = true
				}
			}
		}
		for local := range imports {
			imported = append(imported, pkg+" imports "+local)
		}
	}
	slices.Sort(drawn)
	slices.Sort(imported)
	if !slices.Equal(drawn, imported) {
		t.Errorf("the diagram shows:\n%s\nthe code has:\n%s", strings.Join(drawn, "\n"), strings.Join(imported, "\n"))
	}
}

// TestArchitecturePageNamesRealFiles checks that the source files that docs/architecture.md names exist.
func TestArchitecturePageNamesRealFiles(t *testing.T) {
	page := string(harness.ReadFile(t, filepath.Join(harness.Repository, "docs/architecture.md")))
	for _, name := range regexp.MustCompile(`\b(?:cmd|fallbacks|internal|proxy|routes)/[\w/]+\.go\b`).FindAllString(page, -1) {
		if _, err := os.Stat(filepath.Join(harness.Repository, name)); err != nil {
			t.Errorf("docs/architecture.md names %s: %v", name, err)
		}
	}
}

func checkImport(t *testing.T, path, pkg, quoted string, allowed []string) {
	imported, err := strconv.Unquote(quoted)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(pkg, "internal/breaker") && strings.HasPrefix(imported, "net") {
		t.Errorf("%s imports %s, but a breaker must not depend on networking", path, imported)
	}
	local, ok := strings.CutPrefix(imported, "cbproxy/")
	if !ok {
		return
	}
	if !slices.Contains(allowed, local) {
		t.Errorf("%s imports %s, which allowedImports does not allow for %s", path, local, pkg)
	}
}
