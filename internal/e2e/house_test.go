package e2e

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayKnow lists, for each room, the rooms of ours that it may import. cmd/cbproxy knows
// all, and nobody knows it.
var mayKnow = map[string][]string{
	"cmd/cbproxy": {"routes", "proxy", "fallbacks", "internal/admin", "internal/breaker", "internal/demo", "internal/events", "internal/fleet",
		"internal/accesslog", "internal/metrics", "internal/plain", "internal/queue", "internal/store", "internal/telemetry"},
	"routes":                    nil,
	"proxy":                     {"routes", "fallbacks", "internal/breaker", "internal/events", "internal/http1", "internal/upstream"},
	"fallbacks":                 {"routes", "internal/breaker", "internal/events", "internal/queue", "internal/upstream"},
	"internal/breaker":          {"internal/events"},
	"internal/events":           nil,
	"internal/http1":            nil,
	"internal/upstream":         {"internal/events"},
	"internal/plain":            nil,
	"internal/accesslog":        {"internal/events", "internal/plain"},
	"internal/store":            {"internal/events"},
	"internal/queue":            {"internal/events", "internal/store"},
	"internal/fleet":            {"internal/breaker", "internal/events", "internal/store"},
	"internal/admin":            {"internal/events"},
	"internal/metrics":          {"internal/events"},
	"internal/telemetry":        {"internal/events", "internal/plain"},
	"internal/bench":            {"internal/events", "internal/queue", "internal/store"},
	"internal/e2e":              nil,
	"internal/certtest":         nil,
	"internal/redistest":        {"internal/certtest"},
	"monitoring/dashboard":      nil,
	"monitoring/prometheusrule": nil,
	"internal/demo":             nil,
	"internal/example":          nil,
	"internal/example/caller":   nil,
}

// The house can't drift unseen: who knows whom is part of the design.
func TestRoomsKnowOnlyWhomTheyMay(t *testing.T) {
	root := "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "caddy" || d.Name() == "suites" || d.Name() == "manifests" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2) {
			return filepath.SkipDir // another module, or no room
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		room := filepath.ToSlash(folder)
		allowed, known := mayKnow[room]
		if !known {
			t.Errorf("%s is in no room of the house", path)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			checkImport(t, path, room, spec.Path.Value, allowed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The picture of the house shows the code, not a memory of it: every arrow between its rooms is an
// import, and every import an arrow, save those to the room that all may know.
func TestPictureOfTheHouseIsTrue(t *testing.T) {
	picture := string(contentOf(t, filepath.Join(repository, "docs/architecture.md")))
	picture, _, _ = strings.Cut(picture, "## A request's way")
	rooms := map[string]string{} // by their names in the picture
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+)\["([\w/]+)(?:<br>[^"]*)?"\]$`).FindAllStringSubmatch(picture, -1) {
		rooms[m[1]] = m[2]
	}
	var shown, real []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+) --> (\w+)$`).FindAllStringSubmatch(picture, -1) {
		shown = append(shown, rooms[m[1]]+" knows "+rooms[m[2]])
	}
	for _, room := range rooms {
		imports := map[string]bool{}
		files, err := filepath.Glob(filepath.Join(repository, room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("the picture shows %s, which is no room: %v", room, err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range file.Imports {
				if ours, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "cbproxy/"); ok && !strings.HasSuffix(name, "_test.go") && ours != "internal/events" {
					imports[ours] = true
				}
			}
		}
		for known := range imports {
			real = append(real, room+" knows "+known)
		}
	}
	slices.Sort(shown)
	slices.Sort(real)
	if !slices.Equal(shown, real) {
		t.Errorf("the picture shows:\n%s\nthe code says:\n%s", strings.Join(shown, "\n"), strings.Join(real, "\n"))
	}
}

func checkImport(t *testing.T, path, room, quoted string, allowed []string) {
	imported, err := strconv.Unquote(quoted)
	if err != nil {
		t.Fatal(err)
	}
	if room == "internal/breaker" && strings.HasPrefix(imported, "net") {
		t.Errorf("%s imports %s: the breaker knows nothing of networks", path, imported)
	}
	ours, ok := strings.CutPrefix(imported, "cbproxy/")
	if !ok {
		return
	}
	for _, a := range allowed {
		if a == ours {
			return
		}
	}
	t.Errorf("%s imports %s, which %s may not know", path, ours, room)
}
