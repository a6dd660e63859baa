package e2e

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
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
	"proxy":                     {"routes", "fallbacks", "internal/breaker", "internal/events"},
	"fallbacks":                 {"routes", "internal/breaker", "internal/events", "internal/queue"},
	"internal/breaker":          {"internal/events"},
	"internal/events":           nil,
	"internal/plain":            nil,
	"internal/accesslog":        {"internal/events", "internal/plain"},
	"internal/store":            {"internal/events"},
	"internal/queue":            {"internal/breaker", "internal/events", "internal/store"},
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
