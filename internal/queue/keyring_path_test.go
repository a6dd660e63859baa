package queue_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/queue"
)

// Opening a named pipe would wait for a writer.
func TestKeyringIsReadFromFilesOnly(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "keys")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, t.TempDir()} {
		if _, err := queue.ReadKeyring(path); err == nil || !strings.Contains(err.Error(), path+": not a regular file") {
			t.Errorf("got %v", err)
		}
	}
}
