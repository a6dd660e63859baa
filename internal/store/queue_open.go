package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names below the folder of the store. A segment is named after the first number it may hold.
const (
	queueFolder   = "queue"
	segmentSuffix = ".db"
	deadFile      = "dead" + segmentSuffix
)

// OpenQueue opens the queue in a folder, and makes what is missing, for its owner alone; ""
// is a queue in memory, which ends with the process. Files that are damaged or empty are renamed;
// setAside says which.
func OpenQueue(folder string) (q *Queue, setAside []string, err error) {
	q = &Queue{next: 1}
	if folder != "" {
		q.folder = filepath.Join(folder, queueFolder)
		if err := makeFolder(q.folder); err != nil {
			return nil, nil, fmt.Errorf("open the queue: %w", err)
		}
	}
	setAside, err = q.open()
	if err == nil && len(setAside) > 0 {
		err = q.dead.rename() // what is lost has copies elsewhere, which are nobody's then
	}
	if n := len(q.segments); err == nil && (n == 0 || q.segments[n-1].bytes >= segmentBytes) {
		err = q.begin()
	}
	if err != nil {
		_ = q.Close()
		return nil, nil, err
	}
	return q, setAside, nil
}

// open opens the files there are.
func (q *Queue) open() (setAside []string, err error) {
	names := []string{}
	if q.folder != "" {
		files, err := os.ReadDir(q.folder)
		if err != nil {
			return nil, fmt.Errorf("open the queue: %w", err)
		}
		for _, f := range files { // by name, and so by number
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
		if s == nil { // it was set aside
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

func (q *Queue) sealNewest() {
	if n := len(q.segments); n > 0 {
		q.segments[n-1].seal()
	}
}

// openSegment opens a file, or sets it aside if it is damaged or empty.
func (q *Queue) openSegment(name string) (s *segment, setAside string, err error) {
	path := ""
	if q.folder != "" {
		path = filepath.Join(q.folder, name)
	}
	if path != "" {
		err = inspectPath(path)
	}
	if err == nil {
		s, err = openSegment(path, q.next)
	}
	if err == nil {
		q.start(s)
		return s, "", nil
	}
	if !foreign(err) {
		return nil, "", openError(path, err)
	}
	setAside, err = renameAside(path, err)
	if err != nil || name != deadFile {
		return nil, setAside, err
	}
	if s, err = openSegment(path, q.next); err != nil {
		return nil, setAside, openError(path, err)
	}
	q.start(s)
	return s, setAside, nil
}

func (q *Queue) start(s *segment) {
	s.commits = &q.commits
	s.drained = q.drop
	q.writers.Go(s.run)
}

// begin makes the newest segment, which takes what is added from now on; mu must be held, or
// nobody else know of q.
func (q *Queue) begin() error {
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

// syncFolder makes a new file's name outlive the machine's end, too.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Close writes what is under way, and lets go of the files.
func (q *Queue) Close() error {
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
