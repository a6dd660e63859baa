package admin

import (
	"encoding/json"
	"maps"
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
