package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// fileName is the store's file within its folder.
const fileName = "cbproxy.db"

// ErrInUse is in the error of OpenFile when another process has the file.
var ErrInUse = errors.New("in use by another process")

// OpenFile opens the store in a folder, and makes what is missing, for its owner alone. A file
// that is damaged, empty or another program's is renamed, and a new one is made; setAside then says
// what happened, and is "" otherwise.
func OpenFile(folder string) (f *File, setAside string, err error) {
	path := filepath.Join(folder, fileName)
	if err := makeFolder(folder); err != nil {
		return nil, "", fmt.Errorf("open the store: %w", err)
	}
	if err = inspectPath(path); err == nil {
		f, err = open(path)
	}
	if err != nil && !foreign(err) {
		return nil, "", openError(path, err)
	}
	if err == nil {
		return f, "", nil
	}
	if setAside, err = renameAside(path, err); err != nil {
		return nil, "", err
	}
	if f, err = open(path); err != nil {
		return nil, "", openError(path, err)
	}
	return f, setAside, nil
}

func openError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrInUse
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return fmt.Errorf("open the store %s: %w", path, err)
}

// foreign tells whether err is about the file's content, and not about the file system or
// another process.
func foreign(err error) bool {
	var pathError *fs.PathError
	var errno syscall.Errno
	var notFile *notFileError
	return !errors.Is(err, bolterrors.ErrTimeout) && !errors.As(err, &pathError) && !errors.As(err, &errno) && !errors.As(err, &notFile)
}

// open opens a file that is there or a new one.
func open(path string) (f *File, err error) {
	var db *bolt.DB
	err = guarded(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockPatience})
		return err
	})
	if err != nil {
		return nil, err
	}
	f = &File{db}
	if err = f.inspect(path); err == nil {
		err = f.update(prepare)
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return f, nil
}

// inspect looks for damage. Nobody writes to the file meanwhile: open has locked it, and so far
// followed no reference but those of the file's head.
func (f *File) inspect(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := verify(content); err != nil {
		return err
	}
	return f.view(func(tx *bolt.Tx) error {
		var first error
		for err := range tx.Check() {
			if first == nil {
				first = err
			}
		}
		if first != nil {
			return fmt.Errorf("damaged: %w", first)
		}
		return recognize(tx)
	})
}

// recognize tells whether what is in the file is a store of this format, or nothing.
func recognize(tx *bolt.Tx) error {
	if b := tx.Bucket(metaBucket); b != nil {
		if got := b.Get(formatKey); !bytes.Equal(got, format) {
			return fmt.Errorf("format %q, not %q", got, format)
		}
		return nil
	}
	if name, _ := tx.Cursor().First(); name != nil {
		return errors.New("another program's database")
	}
	return nil
}

// prepare makes the buckets of a new file.
func prepare(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if meta.Get(formatKey) == nil {
		if err := meta.Put(formatKey, format); err != nil {
			return err
		}
	}
	for _, name := range [][]byte{stateBucket, historyBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// renameAside renames an unusable file and says so. An empty one that can't be renamed, as it is a mount point, is used
// where it is.
func renameAside(path string, why error) (setAside string, err error) {
	aside := path + time.Now().UTC().Format(".set-aside-20060102T150405.000Z")
	if err := os.Rename(path, aside); err != nil && errors.Is(why, errEmptyFile) {
		return fmt.Sprintf("%s can't be used (%v): a new one is begun in its place", path, why), nil
	} else if err != nil {
		return "", fmt.Errorf("set the unusable store aside: %w", err)
	}
	return fmt.Sprintf("%s can't be used (%v): it was renamed to %s and a new one is begun", path, why, aside), nil
}
