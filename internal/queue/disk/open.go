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

// Open opens the queue in a directory and creates what is missing, accessible to its owner only. An empty path opens a queue in memory,
// which is lost when the process ends. Damaged and empty files are renamed; setAside has a message about each.
func Open(folder string) (q *Store, setAside []string, err error) {
	q = &Store{next: 1}
	if folder != "" {
		q.folder = filepath.Join(folder, queueFolder)
		if err := boltfile.MakeDir(q.folder); err != nil {
			return nil, nil, fmt.Errorf("open the queue: %w", err)
		}
	}
	setAside, err = q.open()
	if err == nil && len(setAside) > 0 {
		err = q.dead.changeStoreID() // the copies of lost records in Redis then belong to no instance, and one takes them over
	}
	if n := len(q.segments); err == nil && (n == 0 || q.segments[n-1].bytes >= segmentBytes) {
		err = q.addSegment()
	}
	if err != nil {
		_ = q.Close()
		return nil, nil, err
	}
	return q, setAside, nil
}

// open opens the existing files.
func (q *Store) open() (setAside []string, err error) {
	names := []string{}
	if q.folder != "" {
		files, err := os.ReadDir(q.folder)
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
		s, aside, err := q.openSegment(name)
		if err != nil {
			return setAside, err
		}
		if aside != "" {
			setAside = append(setAside, aside)
		}
		if s == nil { // renamed
			continue
		}
		q.next = max(q.next, s.next)
		switch {
		case name == deadFile:
			q.dead = s
		case s.total() == 0:
			s.discard()
		default:
			q.sealNewest()
			q.segments = append(q.segments, s)
		}
	}
	return setAside, nil
}

// sealNewest seals the newest segment; mu must be held, except in Open.
func (q *Store) sealNewest() {
	if n := len(q.segments); n > 0 {
		q.segments[n-1].seal()
	}
}

// openSegment opens a segment and starts its writer. It renames a file that is damaged or empty, and then returns nil, except for the
// dead records, for which it creates a new file.
func (q *Store) openSegment(name string) (s *segment, setAside string, err error) {
	path := ""
	if q.folder != "" {
		path = filepath.Join(q.folder, name)
	}
	if path != "" {
		err = boltfile.InspectPath(path)
	}
	if err == nil {
		s, err = openSegment(path, q.next)
	}
	if err == nil {
		q.start(s)
		return s, "", nil
	}
	if !boltfile.Unusable(err) {
		return nil, "", boltfile.OpenError(path, err)
	}
	setAside, err = boltfile.Quarantine(path, err)
	if err != nil || name != deadFile {
		return nil, setAside, err
	}
	if s, err = openSegment(path, q.next); err != nil {
		return nil, setAside, boltfile.OpenError(path, err)
	}
	q.start(s)
	return s, setAside, nil
}

// start starts the writer of a segment.
func (q *Store) start(s *segment) {
	s.commits = &q.commits
	s.onEmpty = q.removeSegment
	q.writers.Go(s.run)
}

// addSegment creates a segment for new records; mu must be held, except in Open.
func (q *Store) addSegment() error {
	s, _, err := q.openSegment(fmt.Sprintf("%016x%s", q.next, segmentSuffix))
	if err != nil {
		return err
	}
	if s == nil {
		return errors.New("open the queue: a new file is damaged")
	}
	if q.folder != "" {
		if err := syncFolder(q.folder); err != nil {
			return fmt.Errorf("open the queue: %w", err)
		}
	}
	q.sealNewest()
	q.segments = append(q.segments, s)
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
func (q *Store) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	open := slices.Clone(q.segments)
	q.mu.Unlock()
	if q.dead != nil {
		open = append(open, q.dead)
	}
	for _, s := range open {
		s.stop()
	}
	q.writers.Wait()
	var errs []error
	for _, s := range open {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}
