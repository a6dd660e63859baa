package disk_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/queue/disk"
)

// The error names the path, what is there, and what to do. A named pipe in particular must not be opened, because that blocks until
// there is a writer.
func TestOpenRejectsPathThatIsNotAFile(t *testing.T) {
	for kind, make := range map[string]func(string) error{
		"directory":  func(path string) error { return os.Mkdir(path, 0o700) },
		"named pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"device":     func(path string) error { return os.Symlink("/dev/null", path) },
	} {
		for _, name := range []string{"queue/0000000000000001.db", "queue/dead.db"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				folder := t.TempDir()
				path := filepath.Join(folder, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := make(path); err != nil {
					t.Fatal(err)
				}
				_, _, err := disk.Open(folder)
				if err == nil || !strings.Contains(err.Error(), path+": must be a file, and is a "+kind+": remove or rename it") {
					t.Errorf("got %v", err)
				}
				if setAside, _ := filepath.Glob(path + ".set-setAside-*"); len(setAside) > 0 {
					t.Errorf("renamed to %q", setAside)
				}
			})
		}
	}
}

func TestOpenRejectsFileInPlaceOfDirectory(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "queue")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := disk.Open(folder); err == nil || !strings.Contains(err.Error(), path+": must be a directory, and is a file: remove or rename it") {
		t.Errorf("got %v", err)
	}
}

func TestOpenRenamesEmptySegments(t *testing.T) {
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
	q, setAside, err := disk.Open(folder)
	if err != nil || len(setAside) != 2 || len(names) != 2 || !strings.Contains(setAside[0], "it is empty") {
		t.Fatalf("%v, %q", err, setAside)
	}
	defer q.Close()
	if n := add(t, q, "a", "z"); n != 1 {
		t.Errorf("the first record of the new queue has sequence number %d", n)
	}
}
