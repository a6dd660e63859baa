package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// segmentBytes is how much is put into a segment before the next one is begun.
const segmentBytes = 32 << 20

var errQueueClosed = errors.New("the queue is closed")

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
