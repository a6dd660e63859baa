package routes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// readFile returns a file's content, up to one byte more than most. The error says why it
// can't be read, without its path.
func readFile(path string, most int64) ([]byte, error) {
	content, err := func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, most+1))
	}()
	return content, withoutPath(err)
}

// readRegular is readFile for regular files: it opens nothing that could make it wait, such
// as a pipe.
func readRegular(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return readFile(path, most)
}

// readSmall is readRegular for files of at most some bytes.
func readSmall(path string, most int64) ([]byte, error) {
	content, err := readRegular(path, most)
	if err == nil && int64(len(content)) > most {
		return nil, fmt.Errorf("larger than %s", Size(most))
	}
	return content, err
}

func withoutPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
