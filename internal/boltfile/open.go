// Package boltfile opens bbolt databases that may be damaged or belong to another program. It checks a file before bbolt follows the
// references in it, turns panics and page faults into errors, and renames a file that cannot be used.
package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// LockTimeout is how long to wait for the lock of a file, which a previous process may be about to release.
const LockTimeout = time.Second

// MetaBucket is the bucket that marks a database as one of cbproxy's. It holds the version of the format and may hold other values.
var MetaBucket = []byte("cbproxy")

// The format's version changes when an older program could misread what a newer one wrote.
var (
	formatKey     = []byte("format")
	formatVersion = []byte("1")
)

// ErrInUse is in the error of OpenError when another process holds the lock of the file.
var ErrInUse = errors.New("in use by another process")

// Guard calls do and returns its error. It turns a panic into an error, which bbolt raises for a damaged page, and also the page fault
// of a memory-mapped page that is no longer in the file.
func Guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("damaged: %v", r)
		}
	}()
	return do()
}

// Unusable reports whether err is about the content of a file, and not about the file system or another process.
func Unusable(err error) bool {
	var pathError *fs.PathError
	var errno syscall.Errno
	var notFile *notFileError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout), errors.As(err, &pathError), errors.As(err, &errno), errors.As(err, &notFile):
		return false
	}
	// bbolt does not wrap the errors of the file system, such as that of a full disk, when a file must grow.
	for _, prefix := range []string{"file resize error: ", "file sync error: ", "mmap allocate error: ", "mlock/munlock error: "} {
		if strings.HasPrefix(err.Error(), prefix) {
			return false
		}
	}
	return true
}

// OpenError adds to err that the file at path was being opened. The error of a lock that is held becomes ErrInUse.
func OpenError(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrInUse
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return fmt.Errorf("open the store %s: %w", path, err)
}

// CheckFormat returns an error unless the database is empty or has the format of this version.
func CheckFormat(tx *bolt.Tx) error {
	if b := tx.Bucket(MetaBucket); b != nil {
		if got := b.Get(formatKey); !bytes.Equal(got, formatVersion) {
			return fmt.Errorf("format %q, not %q", got, formatVersion)
		}
		return nil
	}
	if name, _ := tx.Cursor().First(); name != nil {
		return errors.New("another program's database")
	}
	return nil
}

// Prepare returns MetaBucket. It creates it if necessary, together with the other buckets, and writes the format's version into it.
func Prepare(tx *bolt.Tx, buckets ...[]byte) (meta *bolt.Bucket, err error) {
	if meta, err = tx.CreateBucketIfNotExists(MetaBucket); err != nil {
		return nil, err
	}
	if meta.Get(formatKey) == nil {
		if err := meta.Put(formatKey, formatVersion); err != nil {
			return nil, err
		}
	}
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return nil, err
		}
	}
	return meta, nil
}

// Quarantine renames a file that cannot be used because of why, so that a new one can be created, and returns a message about it. An
// empty file that cannot be renamed because it is a mount point stays and is to be used.
func Quarantine(path string, why error) (message string, err error) {
	renamed := path + time.Now().UTC().Format(".set-aside-20060102T150405.000Z")
	if err := os.Rename(path, renamed); err != nil && errors.Is(why, ErrEmpty) {
		return fmt.Sprintf("%s is unusable (%v): initialized in place", path, why), nil
	} else if err != nil {
		return "", fmt.Errorf("rename the unusable store: %w", err)
	}
	return fmt.Sprintf("%s is unusable (%v): renamed to %s, a new file is created", path, why, renamed), nil
}
