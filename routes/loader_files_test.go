package routes_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/routes"
)

var update = flag.Bool("update", false, "write what is expected from what is")

func files(t testing.TB, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(found), err)
	}
	return found
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// expect compares got with the content of file, or with -update makes it that.
func expect(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := read(t, file); string(want) != string(got) {
		t.Errorf("got:\n%s\nwant (%s):\n%s", got, file, want)
	}
}

func TestGoodFilesHaveTheEffectOfTheirJSON(t *testing.T) {
	for _, file := range files(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := loader().Parse(read(t, file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(c, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			expect(t, strings.TrimSuffix(file, ".yaml")+".json", append(got, '\n'))
		})
	}
}

func TestBadFilesHaveAllTheirFaults(t *testing.T) {
	for _, file := range files(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := loader().Parse(read(t, file))
			var faults routes.Faults
			if !errors.As(err, &faults) || c != nil {
				t.Fatalf("got %v, %v, want Faults alone", c, err)
			}
			expect(t, strings.TrimSuffix(file, ".yaml")+".faults", []byte(faults.Error()+"\n"))
		})
	}
}

func TestExampleLoads(t *testing.T) {
	l := loader()
	l.Path = "../config.example.yaml"
	c, err := l.Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Routes) != 5 {
		t.Errorf("got %d routes, want the 5 built-in services", len(c.Routes))
	}
}
