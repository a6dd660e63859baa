package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// Repository is the absolute path of the repository's root folder.
var Repository = findRepository()

// findRepository returns the working directory, or its nearest parent, that contains a go.mod.
func findRepository() string {
	folder, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			panic("no go.mod in the working directory or its parents")
		}
		folder = parent
	}
}

// ReadFile returns the content of a file.
func ReadFile(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
