package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cbproxy/internal/boltfile"
)

// Names below the data directory. A segment is named after the first sequence number that it may contain, in hexadecimal.
const (
	queueFolder   = "queue"
	segmentSuffix = ".db"
	deadFile      = "dead" + segmentSuffix
	newSuffix     = ".new" // follows the name of a file that is being created
)

// Open opens the store in a directory and creates what is missing, accessible to its owner only. An empty path opens a store in memory,
// which is lost when the process ends. Damaged and empty files are renamed; quarantined has a message about each.
func Open(folder string) (st *Store, quarantined []string, err error) {
	st = &Store{next: 1}
	if folder != "" {
		st.folder = filepath.Join(folder, queueFolder)
		if err := boltfile.MakeDir(st.folder); err != nil {
			return nil, nil, fmt.Errorf("open the queue: %w", err)
		}
	}
	if quarantined, err = st.open(); err == nil && len(st.segments) == 0 {
		err = st.addSegment()
	}
	if err != nil {
		_ = st.Close()
		return nil, nil, err
	}
	return st, quarantined, nil
}

// unusable is a file that cannot be used, and why.
type unusable struct {
	path string
	err  error
}

// open opens the existing files. It opens the file of dead records first: its lock keeps other processes from all files.
func (st *Store) open() (quarantined []string, err error) {
	if quarantined, err = st.openDead(); err != nil {
		return nil, err
	}
	names, err := st.segmentNames()
	if err != nil {
		return nil, err
	}
	var damaged []unusable
	for _, path := range names {
		switch s, err := st.openSegment(path); {
		case err == nil:
			st.next = max(st.next, s.next)
			st.segments = append(st.segments, s)
		case boltfile.Unusable(err):
			damaged = append(damaged, unusable{path, err})
		default:
			return nil, boltfile.OpenError(path, err)
		}
	}
	if len(damaged) > 0 {
		messages, err := st.quarantine(damaged)
		if quarantined = append(quarantined, messages...); err != nil {
			return nil, err
		}
	}
	// All but the newest are sealed, and deleted if they are empty. The newest is not, because it has the next sequence number.
	for _, s := range st.segments[:max(len(st.segments)-1, 0)] {
		s.seal()
	}
	return quarantined, nil
}

// quarantine renames damaged segments and changes the store's ID.
func (st *Store) quarantine(damaged []unusable) (messages []string, err error) {
	// With a new ID, no instance owns the copies in Redis that belong to the old one. Instances take all of them over and deliver the
	// lost records; those that are still in this store are then delivered twice. The ID changes before a file is renamed: after a crash
	// in between, the next start must not find an intact store with the old ID, because it would remove the copies of the lost records.
	if err := st.dead.changeStoreID(); err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	for _, u := range damaged {
		message, err := boltfile.Quarantine(u.path, u.err)
		if err != nil {
			return nil, err
		}
		messages = append(messages, message)
	}
	return messages, nil
}

// openDead opens the file of dead records. It renames a damaged one and creates a new one, which has a new ID.
func (st *Store) openDead() (quarantined []string, err error) {
	path := st.path(deadFile)
	s, err := st.openSegment(path)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
	case boltfile.Unusable(err):
		message, err := boltfile.Quarantine(path, err)
		if err != nil {
			return nil, err
		}
		quarantined = append(quarantined, message)
	default:
		return nil, boltfile.OpenError(path, err)
	}
	if s == nil {
		if s, err = createSegment(path, 1); err != nil {
			return nil, boltfile.OpenError(path, err)
		}
		st.start(s)
	}
	st.dead, st.next = s, max(st.next, s.next)
	return quarantined, nil
}

// segmentNames returns the paths of the existing segments, oldest first. It removes files whose creation was not completed.
func (st *Store) segmentNames() (paths []string, err error) {
	if st.folder == "" {
		return nil, nil
	}
	files, err := os.ReadDir(st.folder)
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	for _, f := range files { // in the order of their names, and so of their numbers
		switch name := f.Name(); {
		case strings.HasSuffix(name, segmentSuffix+newSuffix):
			_ = os.Remove(st.path(name)) // otherwise the next start removes it
		case strings.HasSuffix(name, segmentSuffix) && name != deadFile:
			paths = append(paths, st.path(name))
		}
	}
	return paths, nil
}

// path returns the path of a file of the store, "" in memory.
func (st *Store) path(name string) string {
	if st.folder == "" {
		return ""
	}
	return filepath.Join(st.folder, name)
}

// openSegment opens an existing segment and starts its writer. The error is fs.ErrNotExist if there is none.
func (st *Store) openSegment(path string) (*segment, error) {
	if path == "" {
		return nil, fs.ErrNotExist
	}
	if err := boltfile.InspectPath(path); err != nil {
		return nil, err
	}
	if err := inspectSegment(path); err != nil {
		return nil, err
	}
	s, err := openSegment(path, st.next)
	if err != nil {
		return nil, err
	}
	st.start(s)
	return s, nil
}

// start starts the writer of a segment.
func (st *Store) start(s *segment) {
	s.commits = &st.commits
	s.onEmpty = st.removeSegment
	st.writers.Go(s.run)
}

// addSegment creates a segment for new records; mu must be held, except in Open.
func (st *Store) addSegment() error {
	s, err := createSegment(st.path(fmt.Sprintf("%016x%s", st.next, segmentSuffix)), st.next)
	if err != nil {
		return fmt.Errorf("create a file of the queue: %w", err)
	}
	st.start(s)
	if n := len(st.segments); n > 0 {
		st.segments[n-1].seal()
	}
	st.segments = append(st.segments, s)
	return nil
}

// createSegment creates a segment. Its file gets its name when it is complete, so that a file without content is always a damaged one:
// neither a crash nor a full disk leaves one.
func createSegment(path string, next uint64) (s *segment, err error) {
	if path == "" {
		return openSegment("", next)
	}
	unfinished := path + newSuffix
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s, err = openSegment(unfinished, next); err != nil {
		_ = os.Remove(unfinished)
		return nil, err
	}
	if err = os.Rename(unfinished, path); err == nil {
		err = boltfile.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = s.db.Close()
		_ = os.Remove(unfinished)
		_ = os.Remove(path)
		return nil, err
	}
	s.path = path
	return s, nil
}

// Close commits the queued changes and closes the files.
func (st *Store) Close() error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil
	}
	st.closed = true
	open := slices.Clone(st.segments)
	st.mu.Unlock()
	if st.dead != nil {
		open = append(open, st.dead)
	}
	for _, s := range open {
		s.stop()
	}
	st.writers.Wait()
	var errs []error
	for _, s := range open {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}
