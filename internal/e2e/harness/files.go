package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// Repository is the absolute path of the Repository's root folder.
var Repository = findRepository()

// findRepository returns the nearest folder above the working directory that has a go.mod.
func findRepository() string {
	folder, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		above := filepath.Dir(folder)
		if above == folder {
			panic("no go.mod above the working directory")
		}
		folder = above
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
