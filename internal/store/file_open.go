package store

import (
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"

	"cbproxy/internal/boltfile"
)

// fileName is the name of the store's file in its directory.
const fileName = "cbproxy.db"

// OpenFile opens the store in a directory and creates what is missing, accessible to its owner only. It renames a file that is damaged,
// empty or another program's, and creates a new one; quarantined then describes that, and is "" otherwise. If another process uses the
// file, the error is boltfile.ErrInUse.
func OpenFile(folder string) (f *File, quarantined string, err error) {
	path := filepath.Join(folder, fileName)
	if err := boltfile.MakeDir(folder); err != nil {
		return nil, "", fmt.Errorf("open the store: %w", err)
	}
	if err = boltfile.InspectPath(path); err == nil {
		f, err = open(path)
	}
	if err != nil && !boltfile.Unusable(err) {
		return nil, "", boltfile.OpenError(path, err)
	}
	if err == nil {
		return f, "", nil
	}
	if quarantined, err = boltfile.Quarantine(path, err); err != nil {
		return nil, "", err
	}
	if f, err = open(path); err != nil {
		return nil, "", boltfile.OpenError(path, err)
	}
	return f, quarantined, nil
}

// open opens a file, which it creates if it does not exist.
func open(path string) (f *File, err error) {
	var db *bolt.DB
	err = boltfile.Guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: boltfile.LockTimeout})
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

// inspect checks the file for damage. The file does not change meanwhile, because open holds its lock, and bbolt has followed only the
// references in its meta pages so far.
func (f *File) inspect(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := boltfile.Verify(content); err != nil {
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
		return boltfile.CheckFormat(tx)
	})
}

// prepare creates the buckets of a new file.
func prepare(tx *bolt.Tx) error {
	_, err := boltfile.Prepare(tx, stateBucket, historyBucket)
	return err
}
