package outcomes

import (
	"errors"
	"slices"
	"sync"

	"cbproxy/internal/events"
)

// maxUnstored is the number of full blocks that wait to be stored, at most: 65 thousand calls, 1 MiB. If the disk is slower, calls are
// lost.
const maxUnstored = 256

// ring has the latest calls of one service, in blocks. It is safe for concurrent use.
type ring struct {
	wake func() // makes the store call store; must return at once

	mu       sync.Mutex // guards the fields below but storage; never held while the storage is used
	current  *block     // the newest block, to which calls are added
	saved    int        // the number of records of current that are stored
	unstored []*block   // full blocks that are not stored yet, oldest first
	storing  int        // the number of blocks at the start of unstored that are being stored: 0 or 1
	slots    []stored   // the stored blocks, by their slots
	lost     uint64     // calls that are lost because the disk was too slow, or failed

	storeMu sync.Mutex // held while blocks are stored, so that they are stored in order
	storage storage
	closed  bool // guarded by storeMu
}

// stored is what is known of a stored block. The zero value is no block.
type stored struct {
	number uint64
	span
}

// newRing returns a ring that continues after the blocks in storage, which has slots. newest is the last block, nil if there is none.
func newRing(s storage, slots []stored, newest *block, wake func()) *ring {
	r := &ring{wake: wake, slots: slots, storage: s}
	switch {
	case newest == nil:
		r.current = newBlock(1)
	case newest.count == blockRecords:
		r.current = newBlock(newest.number() + 1)
	default:
		r.current, r.saved = newest, newest.count
	}
	return r
}

// add adds a call.
func (r *ring) add(c events.Call) {
	r.mu.Lock()
	encode(r.current.next(), &c)
	r.current.added()
	full := r.current.count == blockRecords
	if full {
		if len(r.unstored) == maxUnstored {
			r.lost += uint64(r.unstored[r.storing].count)
			r.unstored = slices.Delete(r.unstored, r.storing, r.storing+1)
		}
		r.unstored = append(r.unstored, r.current)
		r.current, r.saved = newBlock(r.current.number()+1), 0
	}
	r.mu.Unlock()
	if full {
		r.wake()
	}
}

// slot returns the place of a block in the storage.
func (r *ring) slot(number uint64) int { return int((number - 1) % uint64(len(r.slots))) }

// store stores the calls that are not stored yet.
func (r *ring) store() error {
	r.storeMu.Lock()
	defer r.storeMu.Unlock()
	if r.closed {
		return nil
	}
	return r.storeLocked()
}

// storeLocked is store for a caller that holds storeMu.
func (r *ring) storeLocked() error {
	for {
		r.mu.Lock()
		b := new(block) // a copy: the header is written without the lock
		switch {
		case len(r.unstored) > 0:
			*b, r.storing = *r.unstored[0], 1
		case r.current.count > r.saved:
			*b = *r.current
		default:
			r.mu.Unlock()
			return nil
		}
		slot := r.slot(b.number())
		r.slots[slot] = stored{} // until the block is stored
		r.mu.Unlock()
		b.seal()
		err := r.storage.write(slot, b)
		r.mu.Lock()
		if err == nil {
			r.slots[slot] = stored{b.number(), b.span}
			if r.storing > 0 {
				r.unstored = slices.Delete(r.unstored, 0, 1)
			} else if r.current.number() == b.number() {
				r.saved = b.count
			}
		}
		r.storing = 0
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// blockRef refers to a block of a ring.
type blockRef struct {
	ring   *ring
	number uint64
	span
}

// blocks returns the blocks with calls that were asked for from first to last, in ticks since 1970, in any order.
func (r *ring) blocks(first, last int64) (found []blockRef) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(number uint64, s span) {
		if s.first <= last && s.last >= first {
			found = append(found, blockRef{r, number, s})
		}
	}
	inMemory := r.inMemory()
	for _, s := range r.slots {
		if s.number > 0 && s.number < inMemory[0].number() {
			add(s.number, s.span)
		}
	}
	for _, b := range inMemory {
		add(b.number(), b.span)
	}
	return found
}

// inMemory returns the blocks that are not stored, or not completely, oldest first. r.mu is held.
func (r *ring) inMemory() []*block { return append(slices.Clip(r.unstored), r.current) }

// read returns a copy of a block; nil if it has been overwritten since, or cannot be read.
func (r *ring) read(number uint64) (*block, error) {
	if b := r.readUnstored(number); b != nil {
		return b, nil
	}
	b := new(block)
	if err := r.storage.read(r.slot(number), b); err != nil {
		return nil, err
	}
	if !b.unseal() || b.number() != number {
		return nil, nil
	}
	return b, nil
}

func (r *ring) readUnstored(number uint64) *block {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.inMemory() {
		if b.number() == number {
			c := *b
			return &c
		}
	}
	return nil
}

// close stores what is not stored yet and closes the storage. Calls that are added later are lost.
func (r *ring) close() error {
	r.storeMu.Lock()
	defer r.storeMu.Unlock()
	r.closed = true
	return errors.Join(r.storeLocked(), r.storage.close())
}

// lostCalls returns how many calls could not be stored.
func (r *ring) lostCalls() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}
