package fallbacks

import (
	"fmt"
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
type cacheStore struct {
	mu     sync.Mutex
	bounds cacheBounds
	// entries has no bound of its own: makeRoom sees to that.
	entries   *simplelru.LRU[cacheKey, *cacheEntry]
	questions map[cacheKey]*cacheQuestion // those with entries
	numbers   CacheStats                  // but for Entries
}

// cacheQuestion is what the responses to one question have in common.
type cacheQuestion struct {
	key     cacheKey
	names   []string  // in the Vary of the newest response
	newest  time.Time // when that came
	entries int
}

// cacheEntry is one response. It is not modified once it is in the store.
type cacheEntry struct {
	status int
	fields []headerField
	body   []byte
	// received is when the response came, and age how old it was by then.
	received time.Time
	age      time.Duration
	// lifetime is for how long the response said that it is fresh, if it said so.
	lifetime    time.Duration
	hasLifetime bool
	mustBeFresh bool

	question *cacheQuestion
	size     int64
}

func newCacheStore(b cacheBounds) (*cacheStore, error) {
	s := &cacheStore{bounds: b, questions: map[cacheKey]*cacheQuestion{}}
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
}

// put keeps e as the response to the question together with the request's fields that names
// lists, which is what k is the key of. e is whole.
func (s *cacheStore) put(question cacheKey, names []string, k cacheKey, e *cacheEntry) {
	e.size = e.measure(names)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.size > s.bounds.bytes {
		return
	}
	other, replaced := s.entries.Peek(k)
	if replaced && other.received.After(e.received) {
		return // the body of e took longer than that of a later response
	}
	q := s.questions[question]
	if q == nil {
		q = &cacheQuestion{key: question}
		s.questions[question] = q
	}
	if !e.received.Before(q.newest) {
		q.names, q.newest = names, e.received
	}
	q.entries++
	if replaced {
		s.removed(k, other)
	}
	e.question = q
	s.entries.Add(k, e)
	s.numbers.Bytes += e.size
	s.numbers.Stored++
	s.makeRoom() // e is the last to go, and fits
}

// makeRoom evicts what there is beyond the bounds.
func (s *cacheStore) makeRoom() {
	for s.entries.Len() > s.bounds.entries || s.numbers.Bytes > s.bounds.bytes {
		s.entries.RemoveOldest()
		s.numbers.Evicted++
	}
}

// removed keeps the books for an entry that leaves.
func (s *cacheStore) removed(_ cacheKey, e *cacheEntry) {
	s.numbers.Bytes -= e.size
	if e.question.entries--; e.question.entries == 0 {
		delete(s.questions, e.question.key)
	}
}

// names returns the names in the Vary of the newest response to a question.
func (s *cacheStore) names(question cacheKey) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.questions[question]; q != nil {
		return q.names
	}
	return nil
}

// get returns the entry with the key k if it may be used now. One that may not is dropped.
func (s *cacheStore) get(k cacheKey, now time.Time) (*cacheEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries.Get(k)
	if !ok {
		s.numbers.Misses++
		return nil, errNotLearnt
	}
	if now.Sub(e.received) > s.bounds.ttl || !e.usableAt(now) {
		s.numbers.Misses++
		s.entries.Remove(k)
		return nil, errTooOld
	}
	s.numbers.Hits++
	return e, nil
}

func (s *cacheStore) stats() CacheStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := s.numbers
	numbers.Entries = s.entries.Len()
	return numbers
}

// ageAt is how long before now the response was made.
func (e *cacheEntry) ageAt(now time.Time) time.Duration {
	return e.age + max(0, now.Sub(e.received))
}

// usableAt reports whether the response itself allows its use.
func (e *cacheEntry) usableAt(now time.Time) bool {
	return !e.mustBeFresh || e.ageAt(now) < e.lifetime
}

// What an entry takes in memory beside its texts, about: itself and its places in the store's
// list and maps; a field's place in the header; a value's.
const (
	entryOverhead = 640
	fieldOverhead = 48
	valueOverhead = 16
)

// measure returns the size in memory of an entry whose Vary has the given names.
func (e *cacheEntry) measure(names []string) int64 {
	n := entryOverhead + cap(e.body)
	for _, f := range e.fields {
		n += fieldOverhead + len(f.name)
		for _, v := range f.values {
			n += valueOverhead + len(v)
		}
	}
	for _, name := range names {
		n += valueOverhead + len(name)
	}
	return int64(n)
}
