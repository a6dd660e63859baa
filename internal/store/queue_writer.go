package store

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

// change is something that is to be written to a segment.
type change struct {
	kind    kind
	service string
	seq     uint64
	payload []byte
	note    []byte
	result  chan error  // told what became of it, if anybody waits; has room for that
	told    func(error) // likewise
	state   atomic.Int32
}

type kind uint8

const (
	put kind = iota
	remove
	annotate
)

// The states of a change that somebody waits for.
const (
	pending   int32 = iota
	settled         // it was made, or failed
	abandoned       // nobody waits any more, and it must not be made
)

// commitBytes is how much is committed at once, so that no commit takes long.
const commitBytes = 8 << 20

func (s *segment) enqueue(c *change) {
	s.mu.Lock()
	ended, gone, first := s.ended, s.gone, len(s.waiting) == 0
	if !ended {
		s.waiting = append(s.waiting, c)
		if c.kind == put {
			s.adding[c.service]++
		}
		s.awaited = s.awaited || c.result != nil
	}
	s.mu.Unlock()
	switch {
	case gone:
		c.end(nil) // what it is about is gone as well
	case ended:
		c.end(errQueueClosed)
	case first || c.result != nil: // or the writer knows that there is something to do
		s.nudge()
	}
}

func (s *segment) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// do makes a change and waits for it.
func (s *segment) do(c *change) error {
	c.result = make(chan error, 1)
	s.enqueue(c)
	return <-c.result
}

func (c *change) end(err error) {
	if c.result != nil {
		c.result <- err
	}
	if c.told != nil {
		c.told(err)
	}
}

// stop ends the writer once it has made the changes there are.
func (s *segment) stop() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.nudge()
}

// seal tells that nothing more will be added.
func (s *segment) seal() {
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	s.nudge()
}

// run is the writer.
func (s *segment) run() {
	for range s.wake {
		for {
			s.linger()
			batch := s.take()
			if len(batch) == 0 {
				break
			}
			s.commit(batch)
		}
		switch s.finish() {
		case finishedEmpty:
			s.drained(s)
			s.discard()
			return
		case finished:
			return
		}
	}
}

// What the writer has to do after what it has done.
type finish uint8

const (
	unfinished    finish = iota
	finished             // nothing: the queue is closed
	finishedEmpty        // to delete the file
)

// finish decides whether there will be anything more to do. What has come in the meantime is done
// first: who has asked for it before the end waits to be told.
func (s *segment) finish() finish {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.waiting) > 0:
		s.nudge()
		return unfinished
	case s.ended:
		return finished
	case s.sealed && s.totalLocked() == 0:
		s.ended, s.gone = true, true
		return finishedEmpty
	}
	return unfinished
}

// removalPause is how long the removal of what is delivered may wait for others to be committed
// with it: nobody waits for it, and each commit costs two fsyncs.
const removalPause = 10 * time.Millisecond

// linger waits while there is nothing but removals for which nobody waits, for removalPause at
// most.
func (s *segment) linger() {
	if !s.patient() {
		return
	}
	t := time.NewTimer(removalPause)
	defer t.Stop()
	for s.patient() {
		select {
		case <-s.wake:
		case <-t.C:
			return
		}
	}
}

func (s *segment) patient() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0 && !s.awaited && !s.ended
}

// take returns the next changes to be made.
func (s *segment) take() (batch []*change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes, n := 0, 0
	for n < len(s.waiting) && (n == 0 || bytes < commitBytes) {
		bytes += len(s.waiting[n].payload)
		n++
	}
	batch, s.waiting = s.waiting[:n:n], s.waiting[n:]
	if len(s.waiting) == 0 {
		s.waiting, s.awaited = nil, false
	}
	return batch
}

// commit makes changes, all or none, and tells who waits.
func (s *segment) commit(batch []*change) {
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	t := tally{counts: map[string]int{}, next: next}
	err := guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, c := range batch {
				if c.state.Load() == abandoned {
					continue
				}
				if err := t.apply(tx, c); err != nil {
					return err
				}
			}
			return t.write(tx)
		})
	})
	if err != nil {
		err = fmt.Errorf("write to the disk: %w", err)
	} else {
		s.commits.Add(1)
	}
	s.settle(batch, &t, err)
}

// abandon is told of a record that is not to be added any more: nobody needs to wait for it.
func (s *segment) abandon(c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adding[c.service]--
}

// settle makes what was committed visible, and takes back what nobody waited for.
func (s *segment) settle(batch []*change, t *tally, err error) {
	s.mu.Lock()
	var back []*change
	for _, c := range batch {
		made := c.state.CompareAndSwap(pending, settled)
		if c.kind == put && made {
			s.adding[c.service]--
		}
		if c.kind == put && !made && err == nil {
			s.hidden[c.seq] = true
			back = append(back, &change{kind: remove, service: c.service, seq: c.seq})
		}
		if c.kind == remove && err == nil {
			delete(s.hidden, c.seq)
		}
	}
	if err == nil {
		for service, n := range t.counts {
			s.counts[service] += n
		}
		s.next = t.next
		s.visible = max(s.visible, t.next-1)
	}
	s.waiting = append(back, s.waiting...)
	s.mu.Unlock()
	for _, c := range batch {
		c.end(err)
	}
}

// tally is what one commit does to the counts.
type tally struct {
	counts map[string]int
	next   uint64
}

func (t *tally) apply(tx *bolt.Tx, c *change) error {
	records, err := tx.Bucket(recordBucket).CreateBucketIfNotExists([]byte(c.service))
	if err != nil {
		return err
	}
	key := keyOf(c.seq)
	had := records.Get(key) != nil
	switch c.kind {
	case put:
		records.FillPercent = 1 // what is added comes last
		if !had {
			t.counts[c.service]++
		}
		t.next = max(t.next, c.seq+1)
		if err := records.Put(key, c.payload); err != nil || c.note == nil {
			return err
		}
	case remove:
		if !had {
			return nil
		}
		t.counts[c.service]--
		if err := records.Delete(key); err != nil {
			return err
		}
		if notes := tx.Bucket(noteBucket).Bucket([]byte(c.service)); notes != nil {
			return notes.Delete(key)
		}
		return nil
	case annotate:
		if !had {
			return nil
		}
	}
	notes, err := tx.Bucket(noteBucket).CreateBucketIfNotExists([]byte(c.service))
	if err != nil {
		return err
	}
	return notes.Put(key, c.note)
}

// write keeps the counts beside what they count, so that nobody has to go through it.
func (t *tally) write(tx *bolt.Tx) error {
	b := tx.Bucket(countBucket)
	for service, n := range t.counts {
		kept := b.Get([]byte(service))
		if len(kept) == 8 {
			n += int(binary.BigEndian.Uint64(kept))
		}
		if err := b.Put([]byte(service), binary.BigEndian.AppendUint64(nil, uint64(max(n, 0)))); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(nextKey, keyOf(t.next))
}
