package boltfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cbproxy/internal/boltfile"
)

// A named pipe in particular must not be opened, because that blocks until there is a writer.
func TestInspectPathRejectsOtherKindsOfFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.db")
	if err := boltfile.InspectPath(path); err != nil {
		t.Errorf("missing file: %v", err)
	}
	for kind, create := range map[string]func() error{
		"directory":  func() error { return os.Mkdir(path, 0o700) },
		"named pipe": func() error { return syscall.Mkfifo(path, 0o600) },
		"device":     func() error { return os.Symlink("/dev/null", path) },
	} {
		if err := create(); err != nil {
			t.Fatal(err)
		}
		err := boltfile.InspectPath(path)
		if err == nil || err.Error() != "must be a file, and is a "+kind+": remove or rename it" || boltfile.Unusable(err) {
			t.Errorf("%s: %v", kind, err)
		}
		_ = os.Remove(path)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := boltfile.InspectPath(path); !errors.Is(err, boltfile.ErrEmpty) || !boltfile.Unusable(err) {
		t.Errorf("empty file: %v", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := boltfile.InspectPath(path); err != nil {
		t.Errorf("file with content: %v", err)
	}
}
