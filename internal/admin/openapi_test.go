package admin

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestOpenAPIDocumentDescribesEveryPath(t *testing.T) {
	text, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Paths map[string]any }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	described, served := slices.Sorted(maps.Keys(document.Paths)), slices.Sorted(maps.Keys((&api{}).operations()))
	if !slices.Equal(described, served) {
		t.Errorf("described: %q\nserved: %q", described, served)
	}
}

// The document lists each cause of a state that the code knows.
func TestOpenAPIDocumentHasEveryCause(t *testing.T) {
	text, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Components struct {
			Schemas struct{ Cause struct{ Enum []string } }
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../events/state.go")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{""}
	for _, match := range regexp.MustCompile(`(?m)^\tCause\w+ +Cause = "(\w+)"`).FindAllSubmatch(source, -1) {
		want = append(want, string(match[1]))
	}
	if got := document.Components.Schemas.Cause.Enum; len(want) < 2 || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("described: %q\nknown: %q", got, want)
	}
}
