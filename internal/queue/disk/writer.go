package disk

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"cbproxy/internal/boltfile"
)

// change is one change to be written to a segment. Its state is:
//
//	pending -> settled    the commit that contains it has ended, successfully or not; Store.Add returns the outcome, even if ctx has ended
//	pending -> abandoned  the caller of Store.Add has given up before; the record must not exist
//
// A change that is abandoned before its commit begins is not written. If it is abandoned during the commit, its record is hidden
// (segment.hidden), which readers ignore, and a change that removes it is queued.
type change struct {
	kind          kind
	service       string
	seq           uint64
	payload       []byte
	deliveryState []byte
	result        chan error   // receives the outcome; buffered; nil if no caller waits
	done          func(error)  // called with the outcome; may be nil
	state         atomic.Int32 // pending, settled or abandoned
}

type kind uint8

const (
	put kind = iota
	remove
	update
)

// The states of a change.
const (
	pending   int32 = iota
	settled         // committed or failed
	abandoned       // its caller has given up, and it must have no effect
)

// commitBytes bounds the payloads of one commit, and with them its duration.
const commitBytes = 8 << 20

// enqueue queues c for the writer.
func (s *segment) enqueue(c *change) {
	s.mu.Lock()
	stopped, deleted, first := s.stopped, s.deleted, len(s.waiting) == 0
	if !stopped {
		s.waiting = append(s.waiting, c)
		if c.kind == put {
			s.adding[c.service]++
		}
		s.hasWaiter = s.hasWaiter || c.result != nil
	}
	s.mu.Unlock()
	switch {
	case deleted:
		c.finish(nil) // the record was deleted with the segment
	case stopped:
		c.finish(errClosed)
	case first || c.result != nil: // otherwise the writer was notified before
		s.notify()
	}
}

// notify wakes the writer.
func (s *segment) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// submit queues a change and waits until it is committed.
func (s *segment) submit(c *change) error {
	c.result = make(chan error, 1)
	s.enqueue(c)
	return <-c.result
}

// finish reports the outcome of a change to its caller.
func (c *change) finish(err error) {
	if c.result != nil {
		c.result <- err
	}
	if c.done != nil {
		c.done(err)
	}
}

// stop makes the writer return after the changes that are queued.
func (s *segment) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.notify()
}

// seal marks the segment as one that receives no more records.
func (s *segment) seal() {
	s.mu.Lock()
	s.sealed = true
	s.mu.Unlock()
	s.notify()
}

// run is the writer goroutine.
func (s *segment) run() {
	for range s.wake {
		for {
			s.delayRemovals()
			batch := s.nextBatch()
			if len(batch) == 0 {
				break
			}
			s.commit(batch)
		}
		switch s.nextStep() {
		case writerDelete:
			s.onEmpty(s)
			s.discard()
			return
		case writerExit:
			return
		}
	}
}

// writerStep is what the writer does when it has committed everything that was queued.
type writerStep uint8

const (
	writerWait   writerStep = iota
	writerExit              // the queue is closed
	writerDelete            // the segment is sealed and empty
)

// nextStep returns the writer's next step. Changes that were queued before the stop are committed first, because their callers wait.
func (s *segment) nextStep() writerStep {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.waiting) > 0:
		s.notify()
		return writerWait
	case s.stopped:
		return writerExit
	case s.sealed && s.totalLocked() == 0:
		s.stopped, s.deleted = true, true
		return writerDelete
	}
	return writerWait
}

// removalDelay is how long the removal of a delivered record may wait to be committed together with other changes. No caller waits for
// it, and each commit takes two fsyncs.
const removalDelay = 10 * time.Millisecond

// removalRetryDelay is how long after an error the removal of an abandoned record is repeated.
const removalRetryDelay = time.Second

// delayRemovals waits for at most removalDelay while no caller waits for any of the queued changes.
func (s *segment) delayRemovals() {
	if !s.mayDelay() {
		return
	}
	t := time.NewTimer(removalDelay)
	defer t.Stop()
	for s.mayDelay() {
		select {
		case <-s.wake:
		case <-t.C:
			return
		}
	}
}

// mayDelay reports whether changes are queued and no caller waits for them.
func (s *segment) mayDelay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0 && !s.hasWaiter && !s.stopped
}

// nextBatch removes the next batch of changes from the queue and returns it.
func (s *segment) nextBatch() (batch []*change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes, n := 0, 0
	for n < len(s.waiting) && (n == 0 || bytes < commitBytes) {
		bytes += len(s.waiting[n].payload)
		n++
	}
	batch, s.waiting = s.waiting[:n:n], s.waiting[n:]
	if len(s.waiting) == 0 {
		s.waiting, s.hasWaiter = nil, false
	}
	return batch
}

// commit writes a batch of changes in one transaction and reports the outcome to their callers.
func (s *segment) commit(batch []*change) {
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	r := batchResult{counts: map[string]int{}, next: next}
	err := boltfile.Guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, c := range batch {
				if c.state.Load() == abandoned {
					continue
				}
				if err := r.apply(tx, c); err != nil {
					return err
				}
			}
			return r.write(tx)
		})
	})
	if err != nil {
		err = fmt.Errorf("commit: %w", err)
	} else {
		s.commits.Add(1)
	}
	s.publishBatch(batch, &r, err)
}

// abandon stops counting an abandoned record as one that is being added, so that readers do not wait for it.
func (s *segment) abandon(c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adding[c.service]--
}

// publishBatch makes the records of a committed batch visible and queues the removal of those that were abandoned meanwhile.
func (s *segment) publishBatch(batch []*change, r *batchResult, err error) {
	s.mu.Lock()
	var removals []*change
	for _, c := range batch {
		made := c.state.CompareAndSwap(pending, settled)
		if c.kind == put && (err != nil || !made) {
			s.bytes.Add(-int64(len(c.payload))) // a full disk must not make the store create one file after another
		}
		if c.kind == put && made {
			s.adding[c.service]--
		}
		if c.kind == put && !made && err == nil {
			s.hidden[c.seq] = true
			removals = append(removals, &change{kind: remove, service: c.service, seq: c.seq})
		}
		if c.kind == remove && err == nil {
			delete(s.hidden, c.seq)
		}
		if c.kind == remove && err != nil && s.hidden[c.seq] {
			time.AfterFunc(removalRetryDelay, func() { s.enqueue(c) })
		}
	}
	if err == nil {
		for service, n := range r.counts {
			s.counts[service] += n
		}
		s.next = r.next
		s.visible = max(s.visible, r.next-1)
	}
	s.waiting = append(removals, s.waiting...)
	s.mu.Unlock()
	for _, c := range batch {
		c.finish(err)
	}
}

// batchResult is how one transaction changes the segment's totals.
type batchResult struct {
	counts map[string]int // added minus removed records, by service
	next   uint64         // the next sequence number
}

// apply writes one change.
func (r *batchResult) apply(tx *bolt.Tx, c *change) error {
	records, err := tx.Bucket(recordBucket).CreateBucketIfNotExists([]byte(c.service))
	if err != nil {
		return err
	}
	key := keyOf(c.seq)
	had := records.Get(key) != nil
	switch c.kind {
	case put:
		records.FillPercent = 1 // keys are appended in order
		if !had {
			r.counts[c.service]++
		}
		r.next = max(r.next, c.seq+1)
		if err := records.Put(key, c.payload); err != nil || c.deliveryState == nil {
			return err
		}
	case remove:
		if !had {
			return nil
		}
		r.counts[c.service]--
		if err := records.Delete(key); err != nil {
			return err
		}
		if states := tx.Bucket(deliveryStateBucket).Bucket([]byte(c.service)); states != nil {
			return states.Delete(key)
		}
		return nil
	case update:
		if !had {
			return nil
		}
	}
	states, err := tx.Bucket(deliveryStateBucket).CreateBucketIfNotExists([]byte(c.service))
	if err != nil {
		return err
	}
	return states.Put(key, c.deliveryState)
}

// write stores the totals, so that opening a segment need not read all records.
func (r *batchResult) write(tx *bolt.Tx) error {
	b := tx.Bucket(countBucket)
	for service, n := range r.counts {
		kept := b.Get([]byte(service))
		if len(kept) == 8 {
			n += int(binary.BigEndian.Uint64(kept))
		}
		if err := b.Put([]byte(service), binary.BigEndian.AppendUint64(nil, uint64(max(n, 0)))); err != nil {
			return err
		}
	}
	return tx.Bucket(boltfile.MetaBucket).Put(nextKey, keyOf(r.next))
}
