package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrEmpty is the error of a file without content, which bbolt would initialize silently.
var ErrEmpty = errors.New("it is empty: its content is lost, or the process ended while it created the file")

// notFileError is the error of a path that must be a file and is something else.
type notFileError struct{ kind string }

func (e *notFileError) Error() string {
	return "must be a file, and is a " + e.kind + ": remove or rename it"
}

// InspectPath returns an error unless path is a regular file with content or does not exist. It opens nothing, because opening a named
// pipe can block forever.
func InspectPath(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular() && info.Size() == 0:
		return ErrEmpty
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return &notFileError{"directory"}
	case mode&fs.ModeNamedPipe != 0:
		return &notFileError{"named pipe"}
	case mode&fs.ModeSocket != 0:
		return &notFileError{"socket"}
	}
	return &notFileError{"device"}
}

// MakeDir creates a directory and its parents, accessible to their owner only. Their names are on the disk when it returns.
func MakeDir(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s: must be a directory, and is a file: remove or rename it", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if err := MakeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			return nil // another process was faster
		}
		return err
	}
	if err := SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) { // a parent that may be written, but not read
		return err
	}
	return nil
}

// SyncDir writes the names of new and renamed files in a directory to the disk.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
