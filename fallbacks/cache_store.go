package fallbacks

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// CacheStats are the numbers of a route's cache. The counters begin with the process and
// survive a reload.
type CacheStats struct {
	// Hits and Misses count the questions that were and weren't answered.
	Hits, Misses uint64
	// Stored counts the responses that were kept, and Evicted those that went to make room.
	Stored, Evicted uint64
	// Entries are the responses kept now, and Bytes their size in memory, nearly.
	Entries int
	Bytes   int64
}

// cacheBounds are the options that are in force for a store.
type cacheBounds struct {
	ttl     time.Duration
	entries int
	bytes   int64
}

// cacheStore keeps entries within exact bounds, the least recently used going first. Safe for
// concurrent use.
//
// It finds an entry by a hash of its key, and compares the key itself: no two questions are ever
// taken for one another. Of two keys with the same hash the newer one stays.
type cacheStore struct {
	seed maphash.Seed

	mu     sync.Mutex
	bounds cacheBounds
	// entries has no bound of its own: makeRoom sees to that.
	entries   *simplelru.LRU[uint64, *cacheEntry]
	questions map[uint64]*cacheQuestion // those with entries that have a Vary
	numbers   CacheStats                // but for Entries
	spare     []byte                    // what held an entry that has left, and that nobody reads
}

// cacheQuestion is what the responses to one question that have a Vary have in common.
type cacheQuestion struct {
	hash    uint64
	names   []string  // in the Vary of the newest response, which may be one without
	newest  time.Time // when that came
	entries int
}

func newCacheStore(b cacheBounds) (*cacheStore, error) {
	s := &cacheStore{seed: maphash.MakeSeed(), bounds: b, questions: map[uint64]*cacheQuestion{}}
	var err error
	if s.entries, err = simplelru.NewLRU(math.MaxInt, s.removed); err != nil {
		return nil, fmt.Errorf("make the store of the cache: %w", err)
	}
	return s, nil
}

// bound puts b into force.
func (s *cacheStore) bound(b cacheBounds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds = b
	s.makeRoom()
	s.spare = nil
}

// put keeps what e holds, whose Vary has the given names. It returns what may be used for the data
// of another entry.
func (s *cacheStore) put(e *cacheEntry, names []string) (spare []byte) {
	e.size = e.measure(names)
	hash := maphash.Bytes(s.seed, e.key())
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.size > s.bounds.bytes {
		return e.data
	}
	place, taken := s.entries.Get(hash)
	if taken && place.received.After(e.received) {
		return e.data // its body took longer than that of a later response
	}
	e.question = s.ask(e, names)
	if taken {
		s.removed(hash, place)
	} else {
		place = new(cacheEntry)
		s.entries.Add(hash, place)
	}
	*place = *e
	s.numbers.Bytes += e.size
	s.numbers.Stored++
	s.makeRoom() // e is the last to go, and fits
	spare, s.spare = s.spare, nil
	return spare
}

// ask counts e's question, and tells it what is in the Vary of its newest response. It is nil if e
// has no Vary.
func (s *cacheStore) ask(e *cacheEntry, names []string) *cacheQuestion {
	if len(names) == 0 && len(s.questions) == 0 {
		return nil
	}
	hash := maphash.Bytes(s.seed, e.data[:e.questionEnd])
	q := s.questions[hash]
	if q == nil {
		if len(names) == 0 {
			return nil
		}
		q = &cacheQuestion{hash: hash}
		if plain, ok := s.entries.Peek(hash); ok {
			q.newest = plain.received
		}
		s.questions[hash] = q
	}
	if !e.received.Before(q.newest) {
		q.names, q.newest = names, e.received
	}
	if len(names) == 0 {
		return nil
	}
	q.entries++
	return q
}

// makeRoom evicts what there is beyond the bounds.
func (s *cacheStore) makeRoom() {
	for s.entries.Len() > s.bounds.entries || s.numbers.Bytes > s.bounds.bytes {
		s.entries.RemoveOldest()
		s.numbers.Evicted++
	}
}

// removed keeps the books for an entry that leaves.
func (s *cacheStore) removed(_ uint64, e *cacheEntry) {
	s.numbers.Bytes -= e.size
	if q := e.question; q != nil {
		if q.entries--; q.entries == 0 {
			delete(s.questions, q.hash)
		}
	}
	if !e.lent {
		s.spare = e.data
	}
}

// names returns the names in the Vary of the newest response to a question.
func (s *cacheStore) names(question []byte) []string {
	hash := maphash.Bytes(s.seed, question)
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.questions[hash]; q != nil {
		return q.names
	}
	return nil
}

// get returns the entry with the given key if it may be used now. One that may not is dropped.
func (s *cacheStore) get(key []byte, now time.Time) (cacheEntry, error) {
	hash := maphash.Bytes(s.seed, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries.Get(hash)
	if !ok || !bytes.Equal(e.key(), key) {
		s.numbers.Misses++
		return cacheEntry{}, errNotLearnt
	}
	if now.Sub(e.received) > s.bounds.ttl || !e.usableAt(now) {
		s.numbers.Misses++
		s.entries.Remove(hash)
		return cacheEntry{}, errTooOld
	}
	s.numbers.Hits++
	e.lent = true
	return *e, nil
}

func (s *cacheStore) stats() CacheStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := s.numbers
	numbers.Entries = s.entries.Len()
	return numbers
}
