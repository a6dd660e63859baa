package routes_test

import (
	"bytes"
	"os"
	"testing"

	"cbproxy/routes"
)

// The text between these lines of the page is generated.
const (
	referencePage = "../docs/configuration.md"
	referenceFrom = "<!-- Written by go test ./routes -update, of the same source as the JSON Schema. -->\n"
	referenceTo   = "<!-- The end of what is written by it. -->\n"
)

func TestReferenceIsUpToDate(t *testing.T) {
	page := read(t, referencePage)
	before, rest, ok := bytes.Cut(page, []byte(referenceFrom))
	_, after, ended := bytes.Cut(rest, []byte(referenceTo))
	if !ok || !ended {
		t.Fatalf("%s does not say where the reference is", referencePage)
	}
	options, sources := strategies(t)
	reference := append(routes.GenerateReference(t, options, sources...), '\n')
	want := bytes.Join([][]byte{before, []byte(referenceFrom), reference, []byte(referenceTo), after}, nil)
	if *routes.Update {
		if err := os.WriteFile(referencePage, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(page, want) {
		t.Errorf("%s is stale: go test ./routes -run TestReference -update", referencePage)
	}
}
