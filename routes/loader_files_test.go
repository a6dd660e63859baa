package routes_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/routes"
)

func TestGoodFiles(t *testing.T) {
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

func TestBadFiles(t *testing.T) {
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

// A configuration from a named pipe is read once: a reload must not wait for another writer.
func TestReloadRejectsNamedPipe(t *testing.T) {
	l := loader()
	l.Path = filepath.Join(t.TempDir(), "config.yaml")
	if err := syscall.Mkfifo(l.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Reload(); err == nil || !strings.Contains(err.Error(), l.Path+": not a regular file") {
		t.Errorf("got %v", err)
	}
	if _, err := routes.ReadToken(l.Path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a token: got %v", err)
	}
}
