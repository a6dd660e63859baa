package disk

import (
	"errors"
	"fmt"
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
	quarantined, err = st.open()
	if err == nil && len(quarantined) > 0 {
		// With a new ID, no instance owns the copies in Redis that belong to the old one. Instances take all of them over and deliver the
		// lost records; those that are still in this store are then delivered twice.
		err = st.dead.changeStoreID()
	}
	if n := len(st.segments); err == nil && (n == 0 || st.segments[n-1].bytes >= segmentBytes) {
		err = st.addSegment()
	}
	if err != nil {
		_ = st.Close()
		return nil, nil, err
	}
	return st, quarantined, nil
}

// open opens the existing files.
func (st *Store) open() (quarantined []string, err error) {
	names := []string{}
	if st.folder != "" {
		files, err := os.ReadDir(st.folder)
		if err != nil {
			return nil, fmt.Errorf("open the queue: %w", err)
		}
		for _, f := range files { // in the order of their names, and so of their numbers
			if strings.HasSuffix(f.Name(), segmentSuffix) && f.Name() != deadFile {
				names = append(names, f.Name())
			}
		}
	}
	for _, name := range append(names, deadFile) {
		s, message, err := st.openSegment(name)
		if err != nil {
			return quarantined, err
		}
		if message != "" {
			quarantined = append(quarantined, message)
		}
		if s == nil { // renamed
			continue
		}
		st.next = max(st.next, s.next)
		switch {
		case name == deadFile:
			st.dead = s
		case s.total() == 0:
			s.discard()
		default:
			st.sealNewest()
			st.segments = append(st.segments, s)
		}
	}
	return quarantined, nil
}

// sealNewest seals the newest segment; mu must be held, except in Open.
func (st *Store) sealNewest() {
	if n := len(st.segments); n > 0 {
		st.segments[n-1].seal()
	}
}

// openSegment opens a segment and starts its writer. It renames a file that is damaged or empty, and then returns nil, except for the
// dead records, for which it creates a new file.
func (st *Store) openSegment(name string) (s *segment, quarantined string, err error) {
	path := ""
	if st.folder != "" {
		path = filepath.Join(st.folder, name)
	}
	if path != "" {
		err = boltfile.InspectPath(path)
	}
	if err == nil {
		s, err = openSegment(path, st.next)
	}
	if err == nil {
		st.start(s)
		return s, "", nil
	}
	if !boltfile.Unusable(err) {
		return nil, "", boltfile.OpenError(path, err)
	}
	quarantined, err = boltfile.Quarantine(path, err)
	if err != nil || name != deadFile {
		return nil, quarantined, err
	}
	if s, err = openSegment(path, st.next); err != nil {
		return nil, quarantined, boltfile.OpenError(path, err)
	}
	st.start(s)
	return s, quarantined, nil
}

// start starts the writer of a segment.
func (st *Store) start(s *segment) {
	s.commits = &st.commits
	s.onEmpty = st.removeSegment
	st.writers.Go(s.run)
}

// addSegment creates a segment for new records; mu must be held, except in Open.
func (st *Store) addSegment() error {
	name := fmt.Sprintf("%016x%s", st.next, segmentSuffix)
	s, _, err := st.openSegment(name)
	if err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("create segment %s: the existing file was unusable and has been renamed", name)
	}
	if st.folder != "" {
		if err := syncFolder(st.folder); err != nil {
			return fmt.Errorf("open the queue: %w", err)
		}
	}
	st.sealNewest()
	st.segments = append(st.segments, s)
	return nil
}

// syncFolder makes the names of new files durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
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
