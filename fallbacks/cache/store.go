package cache

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"cbproxy/fallbacks"
)

// bounds are the limits of a store.
type bounds struct {
	ttl     time.Duration
	entries int
	bytes   int64
}

// store holds entries. Each method leaves it within its bounds, by evicting the least recently used
// entries; recorders and one spare buffer are not counted. It is safe for concurrent use.
//
// Entries are indexed by a hash of their key. A lookup compares the whole key, so that a collision
// never returns another request's response; of two keys with the same hash, the newer entry stays.
type store struct {
	seed maphash.Seed

	mu       sync.Mutex
	bounds   bounds                         // guarded by mu
	entries  *simplelru.LRU[uint64, *entry] // guarded by mu; evict enforces the bounds
	variants map[uint64]*variant            // guarded by mu; by the hash of the primary key
	counters fallbacks.CacheStats           // guarded by mu; Entries is not used
	buffer   []byte                         // guarded by mu; data of a removed entry, for reuse
}

// variant holds what is common to the responses with a Vary that have the same primary key.
type variant struct {
	hash    uint64
	names   []string  // in the Vary of the newest response, which may have none
	newest  time.Time // when that was received
	entries int
}

func newStore(b bounds) (*store, error) {
	s := &store{seed: maphash.MakeSeed(), bounds: b, variants: map[uint64]*variant{}}
	var err error
	if s.entries, err = simplelru.NewLRU(math.MaxInt, s.onRemove); err != nil {
		return nil, fmt.Errorf("create the cache: %w", err)
	}
	return s, nil
}

// setBounds sets the bounds and evicts entries beyond them.
func (s *store) setBounds(b bounds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds = b
	s.evict()
	s.buffer = nil
}

// put stores a copy of e, whose Vary has the given names. It returns a buffer that may be reused for
// the data of another entry, or nil.
func (s *store) put(e *entry, varyNames []string) (buffer []byte) {
	e.size = e.measure(varyNames)
	hash := maphash.Bytes(s.seed, e.key())
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.size > s.bounds.bytes {
		return e.data
	}
	stored, found := s.entries.Get(hash)
	if found && stored.received.After(e.received) {
		return e.data // a response that arrived after this one has already been stored; keep it
	}
	e.variant = s.addVariant(e, varyNames)
	if found {
		s.onRemove(hash, stored)
	} else {
		stored = new(entry)
		s.entries.Add(hash, stored)
	}
	*stored = *e
	s.counters.Bytes += e.size
	s.counters.Stored++
	s.evict() // does not evict e: it is the most recently used and fits
	buffer, s.buffer = s.buffer, nil
	return buffer
}

// addVariant counts e for the variant of its primary key and updates the names in that. It returns
// nil if e has no Vary.
func (s *store) addVariant(e *entry, varyNames []string) *variant {
	if len(varyNames) == 0 && len(s.variants) == 0 {
		return nil
	}
	hash := maphash.Bytes(s.seed, e.data[:e.primaryEnd])
	v := s.variants[hash]
	if v == nil {
		if len(varyNames) == 0 {
			return nil
		}
		v = &variant{hash: hash}
		if withoutVary, ok := s.entries.Peek(hash); ok {
			v.newest = withoutVary.received
		}
		s.variants[hash] = v
	}
	if !e.received.Before(v.newest) {
		v.names, v.newest = varyNames, e.received
	}
	if len(varyNames) == 0 {
		return nil
	}
	v.entries++
	return v
}

// evict removes entries until the store is within its bounds.
func (s *store) evict() {
	for s.entries.Len() > s.bounds.entries || s.counters.Bytes > s.bounds.bytes {
		s.entries.RemoveOldest()
		s.counters.Evicted++
	}
}

// onRemove updates the counters and variants for an entry that is removed.
func (s *store) onRemove(_ uint64, e *entry) {
	s.counters.Bytes -= e.size
	if v := e.variant; v != nil {
		if v.entries--; v.entries == 0 {
			delete(s.variants, v.hash)
		}
	}
	if !e.shared {
		s.buffer = e.data
	}
}

// varyNames returns the names in the Vary of the newest response with the given primary key.
func (s *store) varyNames(primaryKey []byte) []string {
	hash := maphash.Bytes(s.seed, primaryKey)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.variants[hash]; v != nil {
		return v.names
	}
	return nil
}

// get returns a copy of the entry with the given key, and counts the lookup. It removes an entry that must not be used any more.
func (s *store) get(key []byte, now time.Time) (entry, error) {
	hash := maphash.Bytes(s.seed, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(s.entries.Get, hash, key, now)
	switch err {
	case nil:
		s.counters.Hits++
		return e, nil
	case errTooOld:
		s.entries.Remove(hash)
	}
	s.counters.Misses++
	return entry{}, err
}

// peek returns what get would return, and changes nothing.
func (s *store) peek(key []byte, now time.Time) (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(s.entries.Peek, maphash.Bytes(s.seed, key), key, now)
}

// find returns a copy of the entry with the given key and its hash, which lookup finds. mu must be held.
func (s *store) find(lookup func(hash uint64) (*entry, bool), hash uint64, key []byte, now time.Time) (entry, error) {
	e, ok := lookup(hash)
	switch {
	case !ok || !bytes.Equal(e.key(), key):
		return entry{}, errNotFound
	case now.Sub(e.received) > s.bounds.ttl || !e.usableAt(now):
		return entry{}, errTooOld
	}
	e.shared = true
	return *e, nil
}

func (s *store) stats() fallbacks.CacheStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.counters
	stats.Entries = s.entries.Len()
	return stats
}
