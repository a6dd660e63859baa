package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Record is one entry of a Queue.
type Record struct {
	// Seq numbers the records of a queue in the order in which they were added.
	Seq     uint64
	Payload []byte
	// Note is what was written on it last, nil if nothing was.
	Note []byte
}

// Queue keeps records by service, in the order in which they are added, and apart from them
// dead ones. What a method has returned from is on the disk, unless it says otherwise. Safe for
// concurrent use.
//
// It is a row of files (segments), each a bbolt database: the newest takes what is added, and
// one that is emptied is deleted, so that the space of a backlog is given back, and no file's
// list of free pages grows with it. Each file has one writer, which commits at once all that
// has come while it was busy with the commit before.
type Queue struct {
	folder  string // "" keeps everything in memory
	commits atomic.Uint64
	writers sync.WaitGroup

	mu       sync.Mutex // guards what follows; files are made under it, and nothing waits for a commit
	segments []*segment // oldest first
	next     uint64     // the sequence number of the next record
	dead     *segment
	closed   bool
}

// Names below the folder of the store. A segment is named after the first number it may hold.
const (
	queueFolder   = "queue"
	segmentSuffix = ".db"
	deadFile      = "dead" + segmentSuffix
)

// segmentBytes is how much is put into a segment before the next one is begun.
const segmentBytes = 32 << 20

var errQueueClosed = errors.New("the queue is closed")

// OpenQueue opens the queue in a folder, and makes what is missing, for its owner alone; ""
// is a queue in memory, which ends with the process. Files that are damaged are renamed;
// setAside says which.
func OpenQueue(folder string) (q *Queue, setAside []string, err error) {
	q = &Queue{next: 1}
	if folder != "" {
		q.folder = filepath.Join(folder, queueFolder)
		if err := os.MkdirAll(q.folder, 0o700); err != nil {
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

// openSegment opens a file, or sets it aside if it is damaged.
func (q *Queue) openSegment(name string) (s *segment, setAside string, err error) {
	path := ""
	if q.folder != "" {
		path = filepath.Join(q.folder, name)
	}
	s, err = openSegment(path, q.next)
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

// drop is told of a segment that is empty and takes nothing more, by its writer.
func (q *Queue) drop(s *segment) {
	q.mu.Lock()
	q.segments = slices.DeleteFunc(q.segments, func(other *segment) bool { return other == s })
	q.mu.Unlock()
}

// Add adds a record. If ctx ends before it is kept, it is not added.
func (q *Queue) Add(ctx context.Context, service string, payload []byte) (seq uint64, err error) {
	c := &change{kind: put, service: service, payload: payload, result: make(chan error, 1)}
	s, err := q.enqueue(c)
	if err != nil {
		return 0, fmt.Errorf("add to the queue of %s: %w", service, err)
	}
	select {
	case err = <-c.result:
	case <-ctx.Done():
		if c.state.CompareAndSwap(pending, abandoned) {
			s.abandon(c)
			err = context.Cause(ctx)
		} else {
			err = <-c.result
		}
	}
	if err != nil {
		return 0, fmt.Errorf("add to the queue of %s: %w", service, err)
	}
	return c.seq, nil
}

// enqueue hands c to the newest segment, and returns that.
func (q *Queue) enqueue(c *change) (*segment, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errQueueClosed
	}
	newest := q.segments[len(q.segments)-1]
	if newest.bytes >= segmentBytes {
		if err := q.begin(); err != nil {
			return nil, err
		}
		newest = q.segments[len(q.segments)-1]
	}
	c.seq = q.next
	q.next++
	newest.bytes += int64(len(c.payload))
	newest.enqueue(c)
	return newest, nil
}

// Read returns up to limit records of a service that come after the given number, oldest first,
// and no more of them than fit into maxBytes, save that one is returned whatever its size.
func (q *Queue) Read(service string, after uint64, limit, maxBytes int) (records []Record, err error) {
	for _, s := range q.all() {
		more, last, err := s.read(service, after, limit-len(records), maxBytes, len(records) == 0)
		if err != nil {
			return nil, fmt.Errorf("read the queue of %s: %w", service, err)
		}
		for i := range more {
			maxBytes -= len(more[i].Payload)
		}
		if records = append(records, more...); last {
			break
		}
	}
	return records, nil
}

func (q *Queue) all() []*segment {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.segments)
}

// of returns the segment that may hold a number, nil if it is gone.
func (q *Queue) of(seq uint64) *segment {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range slices.Backward(q.segments) {
		if s.first <= seq {
			return s
		}
	}
	return nil
}

// Remove removes a record; done is told when it is gone from the disk, or why it is not. It
// waits for nothing. That there is no such record is no error.
func (q *Queue) Remove(service string, seq uint64, done func(error)) {
	s := q.of(seq)
	if s == nil {
		done(nil)
		return
	}
	s.enqueue(&change{kind: remove, service: service, seq: seq, told: done})
}

// Note writes a note on a record.
func (q *Queue) Note(service string, seq uint64, note []byte) error {
	s := q.of(seq)
	if s == nil {
		return nil
	}
	if err := s.do(&change{kind: annotate, service: service, seq: seq, note: note}); err != nil {
		return fmt.Errorf("write a note in the queue of %s: %w", service, err)
	}
	return nil
}

// Get returns a record, waiting or dead.
func (q *Queue) Get(service string, seq uint64) (r Record, dead, found bool, err error) {
	for _, s := range []*segment{q.of(seq), q.dead} {
		if s == nil {
			continue
		}
		r, found, err := s.get(service, seq)
		if err != nil || found {
			return r, s == q.dead, found, err
		}
	}
	return Record{}, false, false, nil
}

// Bury makes a record a dead one, with a note that says why. Beyond limit of a service the
// oldest dead ones are removed; lost is how many were.
func (q *Queue) Bury(service string, seq uint64, note []byte, limit int) (lost int, err error) {
	s := q.of(seq)
	if s == nil {
		return 0, nil
	}
	r, found, err := s.get(service, seq)
	if err != nil || !found {
		return 0, err
	}
	// In this order: a record may be there twice, under one number, but never not at all.
	if err := q.dead.do(&change{kind: put, service: service, seq: seq, payload: r.Payload, note: note}); err != nil {
		return 0, fmt.Errorf("keep a dead record of %s: %w", service, err)
	}
	if err := s.do(&change{kind: remove, service: service, seq: seq}); err != nil {
		return 0, fmt.Errorf("remove from the queue of %s: %w", service, err)
	}
	for excess := q.dead.count(service) - limit; lost < excess; lost++ {
		oldest, _, err := q.dead.read(service, 0, 1, 0, true)
		if err != nil || len(oldest) == 0 {
			return lost, err
		}
		if err := q.dead.do(&change{kind: remove, service: service, seq: oldest[0].Seq}); err != nil {
			return lost, err
		}
	}
	return lost, nil
}

// Revive makes a dead record the youngest waiting one, without a note.
func (q *Queue) Revive(ctx context.Context, service string, seq uint64) (renamed uint64, err error) {
	r, found, err := q.dead.get(service, seq)
	if err != nil || !found {
		return 0, err
	}
	if renamed, err = q.Add(ctx, service, r.Payload); err != nil {
		return 0, err
	}
	return renamed, q.dead.do(&change{kind: remove, service: service, seq: seq})
}

// Delete removes a record, waiting or dead.
func (q *Queue) Delete(service string, seq uint64) error {
	for _, s := range []*segment{q.of(seq), q.dead} {
		if s == nil {
			continue
		}
		if err := s.do(&change{kind: remove, service: service, seq: seq}); err != nil {
			return fmt.Errorf("remove from the queue of %s: %w", service, err)
		}
	}
	return nil
}

// Dead returns up to limit dead records of a service, oldest first, that come after the given
// number.
func (q *Queue) Dead(service string, after uint64, limit, maxBytes int) ([]Record, error) {
	records, _, err := q.dead.read(service, after, limit, maxBytes, true)
	return records, err
}

// Counts returns how many records of a service wait, and how many are dead.
func (q *Queue) Counts(service string) (waiting, dead int) {
	for _, s := range q.all() {
		waiting += s.count(service)
	}
	return waiting, q.dead.count(service)
}

// Services returns the services that have records, sorted.
func (q *Queue) Services() []string {
	var names []string
	for _, s := range append(q.all(), q.dead) {
		names = append(names, s.services()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Origin is a name that no other queue has. It outlives the process, unless a file had to be set
// aside.
func (q *Queue) Origin() string { return q.dead.origin }

// Has reports whether a record waits.
func (q *Queue) Has(service string, seq uint64) (bool, error) {
	s := q.of(seq)
	if s == nil {
		return false, nil
	}
	return s.has(service, seq)
}

// Commits counts what was written to the disk, with two fsyncs each.
func (q *Queue) Commits() uint64 { return q.commits.Load() }

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
