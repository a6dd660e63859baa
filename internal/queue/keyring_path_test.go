package queue_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/queue"
)

// A named pipe must not be opened, because that blocks until there is a writer.
func TestReadKeyringRejectsOtherKindsOfFile(t *testing.T) {
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
