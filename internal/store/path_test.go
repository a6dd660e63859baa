package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/store"
)

// A path where a file belongs and something else is can't be opened, and the error says which path, what is there, and what
// to do. A named pipe in particular must not be opened: that waits for a writer.
func TestPathOfSomethingElseIsAClearError(t *testing.T) {
	for kind, make := range map[string]func(string) error{
		"directory":  func(path string) error { return os.Mkdir(path, 0o700) },
		"named pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device":     func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		for _, name := range []string{storeFile, "queue/0000000000000001.db", "queue/dead.db"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				folder := t.TempDir()
				path := filepath.Join(folder, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				var err error
				if name == storeFile {
					_, _, err = store.OpenFile(folder)
				} else {
					_, _, err = store.OpenQueue(folder)
				}
				if err == nil || !strings.Contains(err.Error(), path+": must be a file, and is a "+kind+": remove or rename it") {
					t.Errorf("got %v", err)
				}
				if aside, _ := filepath.Glob(path + ".set-aside-*"); len(aside) > 0 {
					t.Errorf("set aside: %q", aside)
				}
			})
		}
	}
}

func TestFileWhereAFolderBelongsIsAClearError(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "queue")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.OpenQueue(folder); err == nil || !strings.Contains(err.Error(), path+": must be a directory, and is a file: remove or rename it") {
		t.Errorf("got %v", err)
	}
}

func TestEmptySegmentIsSetAside(t *testing.T) {
	folder := t.TempDir()
	q := openQueue(t, folder)
	add(t, q, "a", "x")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(folder, "queue", "*.db"))
	for _, name := range names {
		if err := os.Truncate(name, 0); err != nil {
			t.Fatal(err)
		}
	}
	q, aside, err := store.OpenQueue(folder)
	if err != nil || len(aside) != 2 || len(names) != 2 || !strings.Contains(aside[0], "it is empty") {
		t.Fatalf("%v, %q", err, aside)
	}
	defer q.Close()
	if n := add(t, q, "a", "z"); n != 1 {
		t.Errorf("the first record of the new queue has number %d", n)
	}
}
