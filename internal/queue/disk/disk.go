// Package disk stores the records of the queue in segment files.
package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Store stores records by service in the order in which they are added, and dead records separately. When a method returns, its change
// is on disk (in a store in memory: made), unless its comment says otherwise. Safe for concurrent use.
//
// A store is a sequence of files (segments), each a bbolt database. New records go into the newest. A segment that becomes empty is
// deleted, which frees the space of a backlog and keeps bbolt's free lists short. Each segment has one writer goroutine, which commits
// in one transaction all changes that arrived during the previous commit.
type Store struct {
	folder  string // "" keeps everything in memory
	commits atomic.Uint64
	writers sync.WaitGroup
	dead    *segment // set by Open

	mu       sync.Mutex // guards the fields below; held while files are created, never during a commit
	segments []*segment // oldest first
	next     uint64     // the sequence number of the next record
	closed   bool
}

// Record is one entry of a Store.
type Record struct {
	// Seq is the sequence number. It increases in the order in which records are added.
	Seq     uint64
	Payload []byte
	// DeliveryState is the value of the last SetDeliveryState, nil if there was none. The store does not interpret it.
	DeliveryState []byte
}

// segmentBytes is the size of a segment, see segment.bytes, from which on a new one is created.
const segmentBytes = 32 << 20

var errClosed = errors.New("the queue is closed")

// removeSegment removes a sealed segment that is empty. The segment's writer calls it.
func (st *Store) removeSegment(s *segment) {
	st.mu.Lock()
	st.segments = slices.DeleteFunc(st.segments, func(other *segment) bool { return other == s })
	st.mu.Unlock()
}

// Add adds a record and returns its sequence number. If ctx ends before the record is
// committed, Add fails. After an error the record is not in the store, unless the process ends while a commit that contains it is being
// reverted.
func (st *Store) Add(ctx context.Context, service string, payload []byte) (seq uint64, err error) {
	return st.add(ctx, service, payload, nil)
}

// add is Add with a delivery state, which may be nil.
func (st *Store) add(ctx context.Context, service string, payload, deliveryState []byte) (seq uint64, err error) {
	c := &change{kind: put, service: service, payload: payload, deliveryState: deliveryState, result: make(chan error, 1)}
	s, err := st.enqueue(c)
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

// enqueue passes c to the newest segment and returns the segment.
func (st *Store) enqueue(c *change) (*segment, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil, errClosed
	}
	newest := st.segments[len(st.segments)-1]
	if newest.bytes.Load() >= segmentBytes {
		if err := st.addSegment(); err != nil {
			return nil, err
		}
		newest = st.segments[len(st.segments)-1]
	}
	c.seq = st.next
	st.next++
	newest.bytes.Add(int64(len(c.payload)))
	newest.enqueue(c)
	return newest, nil
}

// Read returns up to limit records of a service with sequence numbers greater than after, oldest first. Their payloads have at most
// maxBytes together, except that a single record of any size is returned.
func (st *Store) Read(service string, after uint64, limit, maxBytes int) (records []Record, err error) {
	for _, s := range st.all() {
		more, stop, err := s.read(service, after, limit-len(records), maxBytes, len(records) == 0)
		if err != nil {
			return nil, fmt.Errorf("read the queue of %s: %w", service, err)
		}
		for i := range more {
			maxBytes -= len(more[i].Payload)
		}
		if records = append(records, more...); stop {
			break
		}
	}
	return records, nil
}

func (st *Store) all() []*segment {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.segments)
}

// segmentOf returns the segment that may contain a sequence number, nil if it was deleted.
func (st *Store) segmentOf(seq uint64) *segment {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, s := range slices.Backward(st.segments) {
		if s.first <= seq {
			return s
		}
	}
	return nil
}

// Remove removes a record asynchronously: it returns before the change is on disk. It calls done with nil when the record is removed
// from disk or does not exist, and otherwise with the error.
func (st *Store) Remove(service string, seq uint64, done func(error)) {
	s := st.segmentOf(seq)
	if s == nil {
		done(nil)
		return
	}
	s.enqueue(&change{kind: remove, service: service, seq: seq, done: done})
}

// SetDeliveryState replaces the delivery state of a record.
func (st *Store) SetDeliveryState(service string, seq uint64, deliveryState []byte) error {
	s := st.segmentOf(seq)
	if s == nil {
		return nil
	}
	if err := s.submit(&change{kind: update, service: service, seq: seq, deliveryState: deliveryState}); err != nil {
		return fmt.Errorf("write a delivery state to the queue of %s: %w", service, err)
	}
	return nil
}

// Get returns a record, waiting or dead. found is false if there is none.
func (st *Store) Get(service string, seq uint64) (r Record, dead, found bool, err error) {
	for _, s := range []*segment{st.segmentOf(seq), st.dead} {
		if s == nil {
			continue
		}
		r, found, err := s.get(service, seq)
		if err != nil || found {
			return r, s == st.dead, found, err
		}
	}
	return Record{}, false, false, nil
}

// DeadLetter moves a waiting record to the dead ones, with a new delivery state. It then removes the oldest other dead records of the
// service beyond limit, which is at least 1; lost is their number. After an error the record is still waiting.
func (st *Store) DeadLetter(service string, seq uint64, deliveryState []byte, limit int) (lost int, err error) {
	s := st.segmentOf(seq)
	if s == nil {
		return 0, nil
	}
	r, found, err := s.get(service, seq)
	if err != nil {
		return 0, fmt.Errorf("read record %d of %s: %w", seq, service, err)
	}
	if !found {
		return 0, nil
	}
	// Add before removing: after a crash in between the record exists twice, with one number, and is not lost.
	if err := st.dead.submit(&change{kind: put, service: service, seq: seq, payload: r.Payload, deliveryState: deliveryState}); err != nil {
		return 0, fmt.Errorf("store a dead letter of %s: %w", service, err)
	}
	if err := s.submit(&change{kind: remove, service: service, seq: seq}); err != nil {
		return 0, fmt.Errorf("remove from the queue of %s: %w", service, err)
	}
	return st.trimDead(service, seq, limit), nil
}

// trimDead removes the oldest dead records of a service beyond limit, but not newest, which has just been added. It returns their number.
// After an error the next call repeats the rest.
func (st *Store) trimDead(service string, newest uint64, limit int) (lost int) {
	for excess := st.dead.count(service) - max(limit, 1); lost < excess; lost++ {
		oldest, _, err := st.dead.read(service, 0, 1, 1, true)
		if err == nil && len(oldest) > 0 && oldest[0].Seq == newest {
			oldest, _, err = st.dead.read(service, newest, 1, 1, true)
		}
		if err != nil || len(oldest) == 0 {
			return lost
		}
		if st.dead.submit(&change{kind: remove, service: service, seq: oldest[0].Seq}) != nil {
			return lost
		}
	}
	return lost
}

// Requeue moves a dead record to the end of the waiting ones, with a new delivery state. It returns the new sequence number, 0 if there
// is no such dead record. With an error and a number the record is both waiting and dead.
func (st *Store) Requeue(ctx context.Context, service string, seq uint64, deliveryState []byte) (newSeq uint64, err error) {
	r, found, err := st.dead.get(service, seq)
	if err != nil {
		return 0, fmt.Errorf("read dead letter %d of %s: %w", seq, service, err)
	}
	if !found {
		return 0, nil
	}
	if newSeq, err = st.add(ctx, service, r.Payload, deliveryState); err != nil {
		return 0, err
	}
	if err := st.dead.submit(&change{kind: remove, service: service, seq: seq}); err != nil {
		return newSeq, fmt.Errorf("remove dead letter %d of %s: %w", seq, service, err)
	}
	return newSeq, nil
}

// Delete removes a record, waiting or dead. After an error it is still there.
func (st *Store) Delete(service string, seq uint64) error {
	for _, s := range []*segment{st.dead, st.segmentOf(seq)} { // a waiting record last: if it is in both, it must not vanish from one only
		if s == nil {
			continue
		}
		found, err := s.has(service, seq)
		if err != nil {
			return fmt.Errorf("read record %d of %s: %w", seq, service, err)
		}
		if !found {
			continue
		}
		if err := s.submit(&change{kind: remove, service: service, seq: seq}); err != nil {
			return fmt.Errorf("remove from the queue of %s: %w", service, err)
		}
	}
	return nil
}

// DeadLetters is like Read for dead records.
func (st *Store) DeadLetters(service string, after uint64, limit, maxBytes int) ([]Record, error) {
	records, _, err := st.dead.read(service, after, limit, maxBytes, true)
	return records, err
}

// Counts returns the numbers of waiting and of dead records of a service.
func (st *Store) Counts(service string) (waiting, dead int) {
	for _, s := range st.all() {
		waiting += s.count(service)
	}
	return waiting, st.dead.count(service)
}

// Services returns the services that have waiting or dead records, sorted.
func (st *Store) Services() []string {
	var names []string
	for _, s := range append(st.all(), st.dead) {
		names = append(names, s.services()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ID returns the random, unique name of this store. It is stored in the file of dead records, and changes when Open had to rename a damaged file.
func (st *Store) ID() string { return st.dead.storeID }

// Has reports whether a record is waiting.
func (st *Store) Has(service string, seq uint64) (bool, error) {
	s := st.segmentOf(seq)
	if s == nil {
		return false, nil
	}
	return s.has(service, seq)
}

// Commits returns the number of commits since Open. Each takes two fsyncs.
func (st *Store) Commits() uint64 { return st.commits.Load() }
