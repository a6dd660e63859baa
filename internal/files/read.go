package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Read returns the content of the file at path, at most maxBytes+1 bytes, so that a caller can detect
// a longer file. The path may be that of a pipe. The error does not contain the path.
func Read(path string, maxBytes int64) ([]byte, error) {
	content, err := func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxBytes+1))
	}()
	return content, withoutPath(err)
}

// ReadRegular is Read for regular files. It returns an error for every other kind of file and does
// not open it, because opening a named pipe can block.
func ReadRegular(path string, maxBytes int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return Read(path, maxBytes)
}

// ReadSmall is ReadRegular with an error if the file is larger than maxBytes.
func ReadSmall(path string, maxBytes int64) ([]byte, error) {
	content, err := ReadRegular(path, maxBytes)
	if err == nil && int64(len(content)) > maxBytes {
		return nil, fmt.Errorf("larger than %d KiB", maxBytes>>10)
	}
	return content, err
}

// withoutPath removes the path from an error of package os.
func withoutPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
