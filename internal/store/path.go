package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// errEmptyFile is the error of an existing file without content. bbolt would make a new database of it without a report.
var errEmptyFile = errors.New("it is empty: what was in it is lost, or the process ended while it was made")

// notFileError is the error of a path where a file belongs and something else is.
type notFileError struct{ kind string }

func (e *notFileError) Error() string {
	return "must be a file, and is a " + e.kind + ": remove or rename it"
}

// inspectPath returns errEmptyFile or a *notFileError unless there is a file with content at path, or nothing. It opens
// nothing, as opening a named pipe could wait forever.
func inspectPath(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular() && info.Size() == 0:
		return errEmptyFile
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

// makeFolder makes a folder and its parents, for their owner alone.
func makeFolder(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s: must be a directory, and is a file: remove or rename it", path)
	}
	return os.MkdirAll(path, 0o700)
}
