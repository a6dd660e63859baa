//go:build !linux

package store

import "os"

// memoryFile returns a file without a name, which goes when it is closed.
func memoryFile() (*os.File, error) {
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
