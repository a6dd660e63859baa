package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// MakeDir creates a directory and its parents, accessible to their owner only.
func MakeDir(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s: must be a directory, and is a file: remove or rename it", path)
	}
	return os.MkdirAll(path, 0o700)
}
