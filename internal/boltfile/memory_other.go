//go:build !linux

package boltfile

import "os"

// MemoryFile returns a temporary file without a name, which is freed when it is closed.
func MemoryFile() (*os.File, error) {
	f, err := os.CreateTemp("", "cbproxy-queue-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
